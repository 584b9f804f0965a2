"""A mount with a real supervisor and fake daemons (or real ones), for the tests of custody.

Owns the supervisor's process and its directories below `base`. Whatever happens, `close` takes mount and processes away. The
test process never opens anything on the mount: `read` starts a process for it, with a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusecache.contract.mount_spec import Medium, MountSpec, SourceSpec, TierSpec
from fusecache.contract.run_files import SPEC
from fusecache.custody.mount_table import MountRecord
from fusecache.custody.mountinfo import find_mount
from fusecache.custody.unmount import unmount

_ROOT = Path(__file__).parent.parent.parent
READY_SECONDS = 20.0


class CustodyMount:
    """`start` may be called again after the mount ended."""

    def __init__(self, base: Path, name: str = "m", **spec_fields: Any) -> None:
        self.base = base
        self.mountpoint = base / name
        self.run_root = base / "run"
        self.run_dir = Path(spec_fields.get("run_dir", self.run_root / name))
        self.fake_dir = base / f"fake-{name}"
        for path in (self.mountpoint, self.run_dir, self.fake_dir, self.fake_dir / "tier"):
            path.mkdir(parents=True, exist_ok=True)
        (self.fake_dir / "tier" / "container").write_bytes(b"b" * 4096)
        fields: dict[str, Any] = {
            "dataset_id": "d",
            "mountpoint": str(self.mountpoint),
            "sources": (SourceSpec("file:///nowhere"),),
            "tiers": (TierSpec(str(self.fake_dir / "tier"), Medium.SSD, 1 << 20),),
            "state_dir": str(base / "state"),
            "run_dir": str(self.run_dir),
        }
        self.spec = MountSpec(**{**fields, **spec_fields})
        self.process: subprocess.Popen[bytes] | None = None  # the supervisor started last
        self._processes: list[subprocess.Popen[bytes]] = []
        self.modules: tuple[str, ...] = (
            "--fetch-module=tests.support.fake_fetch",
            "--serve-module=tests.support.fake_serve",
        )  # () for the real
        self.as_user: tuple[str, ...] = ()  # command line that runs what follows as another user
        self.python = sys.executable
        self.environment: Mapping[str, str] = {}
        self.start_seconds = 0.0

    def start(self, *, foreground: bool = False) -> dict[str, Any]:
        """Start the supervisor; return what it said on the status descriptor ({} if it ended without a word)."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        spec_path = self.run_dir / SPEC
        spec_path.write_text(self.spec.to_json())
        reader, writer = os.pipe()
        arguments = ["-P", "-m", "fusecache.custody", "--spec", str(spec_path), "--status-fd", str(writer), *self.modules]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "FAKE_DIR": str(self.fake_dir), **self.environment}
        began = time.monotonic()
        try:
            self.process = subprocess.Popen(
                [*self.as_user, self.python, *arguments, *(["--foreground"] if foreground else [])],
                pass_fds=(writer,),
                env=environment,
                start_new_session=True,
                stdout=subprocess.DEVNULL if not foreground else None,
            )
            self._processes.append(self.process)
        finally:
            os.close(writer)
        with open(reader, "rb") as status:
            ready, _, _ = select.select([status], [], [], READY_SECONDS)
            answer = json.loads(status.readline() or b"{}") if ready else {"state": "timeout"}
        self.start_seconds = time.monotonic() - began
        assert isinstance(answer, dict)
        return answer

    def give_up_starting(self, seconds: float) -> None:
        """Start, and go away before the mount is ready, as a starter that was killed."""
        spec_path = self.run_dir / SPEC
        spec_path.write_text(self.spec.to_json())
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "fusecache.custody",
                "--spec",
                str(spec_path),
                "--status-fd",
                str(writer),
                *self.modules,
            ],
            pass_fds=(writer,),
            env={**os.environ, "PYTHONPATH": str(_ROOT), "FAKE_DIR": str(self.fake_dir)},
        )
        self._processes.append(self.process)
        os.close(writer)
        time.sleep(seconds)
        os.close(reader)

    @property
    def record(self) -> MountRecord:
        return MountRecord.load(str(self.run_dir))

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The STARTs that fake daemons got."""
        path = self.fake_dir / "starts"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def misdeed(self, name: str, text: str) -> None:
        (self.fake_dir / f"{name}.new").write_text(text)
        (self.fake_dir / f"{name}.new").rename(self.fake_dir / name)

    def read(self, name: str = "hello", seconds: float = 10.0) -> bytes:
        """Return the first bytes of a file of the mount. Raises: CalledProcessError, TimeoutExpired."""
        arguments = ["dd", f"if={self.mountpoint}/{name}", "bs=4096", "count=1", "status=none"]
        return subprocess.run([*self.as_user, *arguments], capture_output=True, timeout=seconds, check=True).stdout

    def hold(self, name: str = "hello") -> subprocess.Popen[bytes]:
        """Return a process that has a file of the mount open until it is sent a line; it then reads, and fails if that fails."""
        code = f"f = open({str(self.mountpoint / name)!r}, 'rb', 0); print(flush=True); input(); f.read(1)"
        holder = subprocess.Popen(
            [*self.as_user, self.python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._processes.append(holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        return holder

    def wait(self, condition: Any, seconds: float = 10.0) -> float:
        """Wait until `condition(record)` holds; returns the seconds it took."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError, ValueError):
                if condition(self.record):
                    return time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds} s: {self.log_text()[-3000:]}")
            time.sleep(0.005)

    def wait_spares(self) -> None:
        self.wait(lambda record: len(record.spares) == 2)

    def log_text(self) -> str:
        with contextlib.suppress(OSError):
            return (self.run_dir / "log").read_text()
        return ""

    def wait_ended(self, seconds: float = 15.0) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def leftovers(self) -> list[str]:
        """What should be gone after the end."""
        found = []
        if find_mount(str(self.mountpoint)) is not None:
            found.append("mount")
        if self.run_dir.exists():
            found.append(f"run directory with {os.listdir(self.run_dir)}")
        found += [f"process {start['role']} {start['pid']}" for start in self.starts if _is_running(start["pid"])]
        return found

    def close(self) -> None:
        """End everything by the shortest way."""
        records = []
        with contextlib.suppress(OSError, ValueError):
            records.append(self.record)
        for process in self._processes:
            process.kill()
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        for start in self.starts:
            with contextlib.suppress(ProcessLookupError):
                if _is_running(start["pid"]):
                    os.kill(start["pid"], signal.SIGKILL)
        if records or find_mount(str(self.mountpoint)) is not None:
            unmount(str(self.run_root), str(self.mountpoint), lazy=True)


def _is_running(pid: int) -> bool:
    """Whether it lives and is one of ours (the pid may have been used again)."""
    with contextlib.suppress(OSError):
        return b"tests.support.fake" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
