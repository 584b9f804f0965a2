"""A mount that may be written, its store, a directory on a local file system beside it, and the process that does the same in
both.

Owns all of it between `start` and `close`. What a run needs is a directory of its own in each (`begin_run`), so that a mount
serves many runs; after a divergence it is taken down, since nobody knows what it is good for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from fusecache.cli.control_client import ConnectionLost, call
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.run_files import STAGE_DIR
from fusecache.source.protocol import EntryKind
from fusecache.source.registry import open_source
from tests.contract.source_suite import list_all
from tests.support.killer import processes_of
from tests.support.mounted import Mounted, kill, wait_until
from tests.support.piped_process import end
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN

PROGRAM = Path(__file__).parent.parent / "support" / "twin_program.py"
ANSWER_SECONDS = 90.0  # more than the deadline of a mount: what takes longer hangs
CONTROL_SECONDS = 60.0
SETTLE_SECONDS = 30.0
KEYS = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}


class HungError(AssertionError):
    """An operation did not end."""


class Outcomes(NamedTuple):
    """["=", value] or ["!", errno's name] of each side."""

    mount: list[Any]
    reference: list[Any]
    differs: str


class DirectoryStore:
    """A local directory, looked at and changed by somebody else than the mount."""

    is_flat = False

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.url = f"file://{directory}"
        self.mount_options: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self._directory = directory

    def read(self, path: str) -> bytes | None:
        try:
            return (self._directory / path).read_bytes()
        except FileNotFoundError:
            return None

    def files(self, path: str) -> dict[str, bytes]:
        """What is below a directory, links and directories aside."""
        root = self._directory / path
        return {str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*") if one.is_file() and not one.is_symlink()}

    def attributes(self, path: str) -> dict[str, list[int]]:
        """Mode, owner and group as the store has them."""
        root = self._directory / path
        found = ((one, one.lstat()) for one in root.rglob("*") if not one.is_symlink())
        return {str(one.relative_to(root)): [s.st_mode & 0o7777, s.st_uid, s.st_gid] for one, s in found}

    def put(self, path: str, data: bytes) -> None:
        new = self._directory.with_name("foreign")
        new.write_bytes(data)
        new.chmod(0o644)
        new.rename(self._directory / path)

    def delete(self, path: str) -> None:
        (self._directory / path).unlink()

    def close(self) -> None:
        """Nothing is open."""


class BucketStore:
    """A prefix of a bucket of a real S3 server."""

    is_flat = True

    def __init__(self, endpoint_url: str) -> None:
        self.mount_options = {"endpoint_url": endpoint_url}
        self.environment = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}
        self._prefix = os.urandom(4).hex()
        self.url = f"s3://written/{self._prefix}"
        self._bucket = S3Bucket(endpoint_url, "written", ADMIN.access_key, ADMIN.secret_key).create()
        self._source = open_source(self.url, {"endpoint_url": endpoint_url, **KEYS}, {})

    def read(self, path: str) -> bytes | None:
        try:
            entry = self._source.stat(path.encode())
            return bytes(self._source.read(path.encode(), entry.version, 0, entry.size)) if entry.size else b""
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            return None

    def files(self, path: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        line = [path]
        while line:
            directory = line.pop()
            for entry in list_all(self._source, directory.encode())[0]:
                one = f"{directory}/{entry.name.decode()}"
                if entry.kind is EntryKind.DIRECTORY:
                    line.append(one)
                else:
                    data = self.read(one)
                    assert data is not None, f"{one} is listed and not there"
                    found[one[len(path) + 1 :]] = data
        return found

    def attributes(self, path: str) -> dict[str, list[int]]:
        """Not compared: a listing does not tell them."""
        return {}

    def put(self, path: str, data: bytes) -> None:
        self._bucket.put(f"{self._prefix}/{path}".encode(), data)

    def delete(self, path: str) -> None:
        self._bucket.delete(f"{self._prefix}/{path}".encode())

    def close(self) -> None:
        self._source.close()
        self._bucket.close()


Store = DirectoryStore | BucketStore


class WriteArena:
    """`kills`: how many daemons were killed."""

    def __init__(self, base: Path, store: Store, options: Mapping[str, str] | None = None) -> None:
        self.store = store
        self.kills = 0
        self._base = base
        # A refresh does not take back what the kernel may remember of a name that was not there.
        self._options = {"negative_ttl": "0", **(options or {})}
        self._runs = 0
        self._places = 0
        self._mounted: Mounted | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._due_kill: tuple[tuple[str, ...], float] | None = None
        self._reference = base

    @property
    def reference(self) -> Path:
        """May be looked at by anybody: no daemon is needed for that."""
        return self._reference

    @property
    def mounted(self) -> Mounted:
        assert self._mounted is not None
        return self._mounted

    def begin_run(self) -> str:
        """Return the name of a new directory on both sides."""
        if self._mounted is None:
            self._start()
        self._runs += 1
        name = f"run{self._runs}"
        made = self.do("mkdir", name, 0o755)
        assert made.mount == made.reference == ["=", None], made
        return name

    def _start(self) -> None:
        self._places += 1
        place = self._base / f"place{self._places}"
        self._reference = place / "reference"
        self._reference.mkdir(parents=True)
        mounted = Mounted(
            place, [self.store.url], options={**self.store.mount_options, **self._options}, arguments=["--read-write"],
            environment=self.store.environment,
        )  # fmt: skip
        self._mounted = mounted.__enter__()
        self._start_program()

    def _start_program(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.mounted.mountpoint), str(self._reference)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def do(self, name: str, *arguments: Any, which: str = "both") -> Outcomes:
        """Do the same on both sides. Raises: HungError."""
        program = self._program
        assert program is not None
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps([which, name, *arguments]).encode() + b"\n")
        program.stdin.flush()
        if self._due_kill is not None and which != "reference":
            (roles, delay), self._due_kill = self._due_kill, None
            time.sleep(delay)
            for role in roles:
                self._kill(role)
        if not select.select([program.stdout], [], [], ANSWER_SECONDS)[0]:
            raise HungError(f"{name}{arguments} did not end in {ANSWER_SECONDS} s")
        line = program.stdout.readline()
        assert line, f"{name}{arguments}: the program ended"
        answer = json.loads(line)
        return Outcomes(answer.get("mount", []), answer.get("reference", []), answer.get("differs", ""))

    def kill_soon(self, roles: tuple[str, ...], delay: float) -> None:
        """Kill so long after the next operation began."""
        self._due_kill = roles, delay

    def _kill(self, role: str) -> None:
        def kill_one() -> bool:
            return any(process.is_alive and kill(process.pid) for process in processes_of(self.mounted.record(), role))

        assert wait_until(kill_one, 30.0, 0.005), f"no {role} came back to be killed"
        self.kills += 1

    def ask(self, what: str, path: str) -> None:
        """Have the mount's fetch do something below a path: "refresh", "drop"."""
        end_at = time.monotonic() + CONTROL_SECONDS
        while True:
            try:
                call(self.mounted.record().run_dir, {"do": what, "paths": [path]}, CONTROL_SECONDS)
            except CacheError as error:  # one that was killed, and its successor is not there yet
                is_lost = isinstance(error, ConnectionLost) or error.kind is ErrorKind.UNAVAILABLE
                if not is_lost or time.monotonic() > end_at:
                    raise
                time.sleep(0.02)
            else:
                return

    def wait_settled(self, written: int) -> None:
        """Return when no more than so many files are being written: after the last close a file becomes an object like any other
        in the background."""
        assert wait_until(lambda: self._stages() <= written, SETTLE_SECONDS, 0.005), "a file that is closed stays a stage"

    def _stages(self) -> int:
        return sum(1 for _ in self._base.glob(f"place{self._places}/cache/fusecache/*/{STAGE_DIR}/*.data"))

    def mount_again(self) -> None:
        """The same cache, a new connection. Nothing may be open."""
        self._due_kill = None
        self._end_program()
        self.mounted.umount()
        self.mounted.mount()
        self._start_program()

    def log(self) -> str:
        return "" if self._mounted is None else self._mounted.log()

    def give_up(self) -> None:
        """Something is wrong with the mount: the next run gets another one."""
        self._due_kill = None
        self._kill_program()
        if self._mounted is not None:
            self._mounted.close()
            self._mounted = None

    def _end_program(self) -> None:
        if self._program is not None:
            end(self._program)
            self._program = None

    def _kill_program(self) -> None:
        """It may hang in the mount, and ends when that is gone."""
        program, self._program = self._program, None
        if program is None:
            return
        program.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(2.0)
        for pipe in (program.stdin, program.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if program.poll() is None and self._mounted is not None:
            abort(self._mounted.mountpoint)
            program.wait(10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.give_up()
        self.store.close()
        shutil.rmtree(self._base, ignore_errors=True)


def abort(mountpoint: Path) -> None:
    """End the connection of a FUSE mount: whoever waits for it gets an error."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(mountpoint):
            minor = fields[2].partition(":")[2]
            with contextlib.suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
