"""A real mount, made by the real command line, for tests that look at the whole: fuse, stress, bench.

Owns the mount, its supervisor and daemons, and the cache below `base`; `close` takes all of it away whatever happened before.
The test process never opens anything below the mount point: programs that do are started with a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fusecache.cli.control_client import call
from fusecache.custody.mount_table import MountRecord, list_mounts, run_root

ROOT = Path(__file__).parent.parent.parent
COMMAND_SECONDS = 90.0


class CommandFailedError(Exception):
    """A command ended with another status than 0; the message is what it wrote to stderr."""


class Mounted:
    """Use as a context manager. `sources` as on the command line; `options` become -o KEY=VALUE."""

    def __init__(
        self,
        base: Path,
        sources: Sequence[str],
        *,
        options: Mapping[str, str] | None = None,
        tiers: Sequence[str] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        name: str = "mnt",
        prefix: Sequence[str] = (),
    ) -> None:
        """`tiers`: PATH:QUOTA[:HIGH[:LOW]] each; None: one SSD tier of 1 GiB below `base`. `prefix`: a command line that starts
        the mount, as `nice` would."""
        self.base = base
        self.mountpoint = base / name
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        self.sources = list(sources)
        self.options = dict(options or {})
        self.tiers = [f"{base / 'tier'}:1Gi"] if tiers is None else list(tiers)
        self.arguments = list(arguments)
        self.prefix = list(prefix)
        self.environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(base / "cache"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "fusecache.cli", *arguments]

    def run(
        self, *arguments: str, timeout: float = COMMAND_SECONDS, check: bool = True, prefix: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run `fusecache ARGUMENTS`. Raises: CommandFailedError."""
        done = subprocess.run(
            [*prefix, *self.command(*arguments)],
            env=self.environment,
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise CommandFailedError(
                f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done

    def mount(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        tiers = [part for tier in self.tiers for part in ("--tier", tier)]
        options = [part for key, value in self.options.items() for part in ("-o", f"{key}={value}")]
        arguments = [*self.sources, str(self.mountpoint), *tiers, *options, *self.arguments]
        return self.run("mount", *arguments, check=check, prefix=self.prefix)

    def umount(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("umount", *arguments, str(self.mountpoint), check=check)

    def status(self) -> dict[str, Any]:
        listed: list[dict[str, Any]] = json.loads(self.run("status", str(self.mountpoint), "--json").stdout)
        return listed[0]

    def metrics(self) -> dict[str, float]:
        """The Prometheus metrics of fetch: name (with labels) → value."""
        text = str(call(self.record().run_dir, {"do": "metrics"}, COMMAND_SECONDS)["text"])
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def record(self) -> MountRecord:
        """What the supervisor wrote about the mount: no process is started and nobody asked. Raises: LookupError."""
        for record in list_mounts(str(self._run_root())):
            if record.mountpoint == str(self.mountpoint):
                return record
        raise LookupError(f"no record of a mount at {self.mountpoint}")

    def pids(self, role: str) -> list[int]:
        """The pids of "supervisor", "fetch" or "serve", dead ones perhaps, until the supervisor has noticed."""
        record = self.record()
        if role == "serve":
            return [process.pid for process in record.serve]
        process = record.supervisor if role == "supervisor" else record.fetch
        return [process.pid] if process is not None else []

    def pid(self, role: str) -> int:
        """The pid of "supervisor", "fetch" or "serve" (the first one); waits while it is being replaced."""
        if not wait_until(lambda: self.pids(role), COMMAND_SECONDS):
            raise LookupError(f"the mount at {self.mountpoint} has no {role}")
        return self.pids(role)[0]

    def log(self) -> str:
        """Return the daemons' log, "" if the mount is gone."""
        for record in list_mounts(str(self._run_root())):
            if record.mountpoint == str(self.mountpoint):
                with contextlib.suppress(OSError):
                    return (Path(record.run_dir) / "log").read_text(errors="replace")
        return ""

    def _run_root(self) -> Path:
        return Path(run_root(os.getuid(), self.environment.get("XDG_RUNTIME_DIR")))

    def is_mounted(self) -> bool:
        return any(line.split()[4] == str(self.mountpoint) for line in Path("/proc/self/mountinfo").read_text().splitlines())

    def read_bytes(self, path: str, *, timeout: float = 60.0) -> bytes:
        """Return a file's bytes, read by a program with a deadline. Raises: CommandFailedError with the errno's name."""
        return run_below(self.mountpoint, ["cat", path], timeout)

    def close(self) -> None:
        if self.is_mounted() or self._has_run_dir():
            with contextlib.suppress(Exception):
                self.umount("--lazy", check=False)
        with contextlib.suppress(Exception):
            while self.is_mounted():
                subprocess.run(["umount", "-l", str(self.mountpoint)], check=True, timeout=10)

    def _has_run_dir(self) -> bool:
        return any(record.mountpoint == str(self.mountpoint) for record in list_mounts(str(self._run_root())))

    def __enter__(self) -> Self:
        try:
            self.mount()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def run_below(directory: Path, command: Sequence[str], timeout: float) -> bytes:
    """Run a program in a directory (possibly of a mount); return its stdout. Raises: CommandFailedError; kills it after
    `timeout`."""
    shell = subprocess.Popen(
        ["timeout", "-s", "KILL", str(timeout), "env", "-C", str(directory), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = shell.communicate(timeout=timeout + 10)
    if shell.returncode:
        raise CommandFailedError(f"{' '.join(command)}: exit {shell.returncode}: {err.decode(errors='replace').strip()}")
    return out


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal; return whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Any, seconds: float, step: float = 0.05) -> bool:
    """Poll until `condition()` is true; return whether it became so in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(step)
    return bool(condition())
