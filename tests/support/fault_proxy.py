"""A proxy before a store that does to requests what networks and stores do on bad days, and counts it.

Owns the proxy's process (see fault_proxy_process) for the length of a `with`; used from any thread, each order on a control
connection of its own.
"""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from tests.support import piped_process
from tests.support.fault_plan import Fault, Gone, Plan

__all__ = ["Counts", "Fault", "FaultProxy", "Gone", "Logged", "Plan"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start or the last `reset`. `requests` and `bytes` (of bodies sent to clients) are by "METHOD /path"."""

    fired: dict[Fault, int]
    requests: dict[str, int]
    bytes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Logged:
    """One request that ended; `path` is percent-decoded, `range` the header's value or "", `bytes` those of the body sent."""

    time: float
    method: str
    path: str
    query: str
    range: str
    status: int
    fault: str | None
    bytes: int


class FaultProxy:
    """Use as a context manager. `url` stands for the store's endpoint until it is closed, whatever the plan says. `address`: of
    this machine, where it listens."""

    def __init__(self, upstream_url: str, plan: Plan | None = None, address: str = "127.0.0.1") -> None:
        self._address = address
        parts = urlsplit(upstream_url)
        self._upstream = f"{parts.hostname}:{parts.port or 80}"
        self._first_plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self._control_port = 0

    @property
    def url(self) -> str:
        return f"http://{self._address}:{self.port}"

    def start(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fault_proxy_process", self._upstream, "0", self._address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # Ctrl-C in a terminal reaches the caller only
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError("the fault proxy did not start; its error is on stderr")
        ports = json.loads(line)
        self.port, self._control_port = ports["port"], ports["control_port"]
        if self._first_plan is not None:
            self.set_plan(self._first_plan)
        return self

    def set_plan(self, plan: Plan) -> None:
        """What happens to requests from now on."""
        self._order({"do": "plan", "plan": dataclasses.asdict(plan)})

    def reset(self) -> None:
        """Forget counts and log."""
        self._order({"do": "reset"})

    def counts(self) -> Counts:
        raw = self._order({"do": "counts"})
        return Counts({Fault(kind): count for kind, count in raw["fired"].items()}, raw["requests"], raw["bytes"])

    def log(self) -> list[Logged]:
        """Return every request that ended, in the order they ended."""
        return [Logged(**{**entry, "path": unquote(entry["path"])}) for entry in self._order({"do": "log"})["log"]]

    def bytes_fetched_twice(self, path: str) -> int:
        """Return how many bytes of an object (`/bucket/key`) were sent more than once, counted once per repetition."""
        return repeated_bytes(entry for entry in self.log() if entry.path == path and entry.method == "GET")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            piped_process.end(process)

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self._control_port), 30) as sock, sock.makefile("rwb") as stream:
            stream.write(json.dumps(order).encode() + b"\n")
            stream.flush()
            answer: dict[str, Any] = json.loads(stream.readline())
        return answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def repeated_bytes(entries: Iterable[Logged]) -> int:
    """Return how many bytes beyond the first sending of each the GETs of one object sent."""
    spans = []
    for entry in entries:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", entry.range)
        start = int(match[1]) if match and entry.status == 206 else 0
        if entry.status in (200, 206) and entry.bytes:
            spans.append((start, start + entry.bytes))
    repeated = end = 0
    for start, stop in sorted(spans):
        repeated += max(0, min(end, stop) - start)
        end = max(end, stop)
    return repeated
