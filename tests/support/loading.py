"""Loaders of DataLoads: as the program that a Job runs, or in this process for pods whose addresses no DNS has."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusecache.pod.http_client import Peer
from fusecache.pod.load_plan import LoadPlan
from fusecache.pod.load_progress import Figures, Outcome
from fusecache.pod.loader import Loader
from tests.support.cache_pod import TOKEN, CachePod
from tests.support.mounted import ROOT
from tests.support.seaweed import free_ports

END_SECONDS = 90.0


def plan_of(port: int, *targets: str, **more: Any) -> dict[str, Any]:
    """As the operator writes it down."""
    named = [{"path": path, "is_pattern": "*" in path} for path in targets or ("",)]
    return {"version": 1, "service": "127.0.0.1", "port": port, "listen_port": 0, "targets": named, **more}


class LoaderProcess:
    """A loader's container: the program, and the files that kubelet gives it."""

    def __init__(self, directory: Path, plan: dict[str, Any]) -> None:
        directory.mkdir()
        self._message, self._log = directory / "message", directory / "log"
        self.port = plan["listen_port"] or free_ports(1)[0]
        (directory / "token").write_text(TOKEN)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        environment["FUSECACHE_LOAD"] = json.dumps({**plan, "listen_port": self.port})
        command = [sys.executable, "-P", "-m", "fusecache.pod.load"]
        command += ["--token", str(directory / "token"), "--message", str(self._message)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait(self) -> tuple[int, str, dict[str, Any]]:
        """Return exit status, words and figures."""
        status = self.process.wait(END_SECONDS)
        words, figures = self._message.read_text().splitlines()
        return status, words, json.loads(figures)

    def status(self, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/status", headers={"Authorization": f"Bearer {token}"})
            with connection.getresponse() as response:
                return response.status, json.loads(response.read())
        except ConnectionError:
            return 0, {}
        finally:
            connection.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        print(f"loader:\n{self._log.read_text()[-4000:]}")


class LoaderThread:
    """A loader that finds whichever pods are in `pods` at the moment."""

    def __init__(self, token: Path, plan: dict[str, Any], pods: Sequence[CachePod]) -> None:
        token.write_text(TOKEN)
        self.pods = list(pods)
        self._loader = Loader(LoadPlan.parse(json.dumps(plan)), str(token), self._resolve)
        self._found: Outcome | BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def figures(self) -> Figures:
        return self._loader.figures

    def wait(self) -> Outcome:
        """Raises: CacheError, TimeoutError."""
        self._thread.join(END_SECONDS + 10)
        if isinstance(self._found, BaseException):
            raise self._found
        assert self._found is not None
        return self._found

    def _run(self) -> None:
        async def run() -> Outcome:
            return await asyncio.wait_for(self._loader.run(), END_SECONDS)

        try:
            self._found = asyncio.run(run())
        except BaseException as error:
            self._found = error

    async def _resolve(self) -> list[Peer]:
        return [Peer("127.0.0.1", pod.port) for pod in self.pods]


def run_loader(token: Path, plan: dict[str, Any], *pods: CachePod) -> Outcome:
    return LoaderThread(token, plan, pods).wait()


def cached_bytes(pod: CachePod) -> int:
    return int(json.loads(pod.get("/status", TOKEN)[1])["cached_bytes"])


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
