"""Cache daemons as processes: a supervisor for each dataset's mount, which outlives the driver. Used from one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from csi import VERSION
from csi.mounting.ownership import make_owned
from csi.mounting.processes import reap_some_time
from fusecache.base.confinement import Confinement, User
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import LOG, SPEC
from fusecache.custody.mount_table import MountRecord, end_process, remove_run_dir
from fusecache.custody.spawn import SUPERVISOR_MODULE, spawn_supervisor

START_SECONDS = 100.0  # kubelet gives a call two minutes
LOOK_SECONDS = 0.02
_TAIL_BYTES = 2000


class Daemons:
    """`environment`: of the daemons: credentials of the node may be in it. `user`: theirs; they give up being root before all
    else, and can write only in the directories of their mount."""

    def __init__(self, environment: Mapping[str, str], user: User) -> None:
        self._environment = dict(environment)
        self.user = user
        if user.uid != os.geteuid():
            self._environment["HOME"] = "/nonexistent"  # ours is not to be read by others: libraries would stumble over that

    async def start(self, spec: MountSpec, custody: str) -> None:
        """Return when the mount answers. `custody`: where custody listens for it.

        Raises: CacheError, as the daemons say it; nothing of them is left then.
        """
        run_dir = Path(spec.run_dir)
        make_owned(run_dir, self.user)
        spec_path = _store_spec(run_dir, spec, self.user)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = spawn_supervisor(
                SUPERVISOR_MODULE,
                self._environment,
                status_fd=writer,
                spec_path=str(spec_path),
                custody=custody,
                confinement=self._confinement(spec),
            )
        finally:
            os.close(writer)
        reap_some_time(pid)
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await _read_line(reader)
        except BaseException as error:
            _end(pid)
            if isinstance(error, TimeoutError):
                raise CacheError(
                    ErrorKind.TIMEOUT, f"the mount was not ready within {START_SECONDS:g} s; see {run_dir / LOG}"
                ) from None
            raise
        report = json.loads(line) if line else {}
        if report.get("state") != "ready":
            said = report.get("message") or f"its supervisor ended; its log says: {_tail(run_dir / LOG)}"
            raise CacheError(ErrorKind(report.get("kind", ErrorKind.BUG)), str(said))
        scratch = run_dir / f"{SPEC}.new"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(spec_path.name)
        scratch.rename(run_dir / SPEC)

    def _confinement(self, spec: MountSpec) -> str:
        """ "" if they stay root, as who started us wants it."""
        if self.user.uid == os.geteuid():
            return ""
        writable = [spec.run_dir, spec.state_dir, *(tier.path for tier in spec.tiers)]
        if spec.read_write:
            urls = (urlsplit(source.url) for source in spec.sources)
            writable += [unquote(url.path) for url in urls if url.scheme == "file" and os.path.isdir(unquote(url.path))]
        return Confinement(self.user.uid, self.user.gid, tuple(writable)).to_json()

    async def wait_ended(self, run_dir: str, seconds: float) -> bool:
        """Return whether the supervisor, whose mount is gone, has ended in time; it uploads what was written first."""
        record = record_of(run_dir)
        deadline = asyncio.get_running_loop().time() + seconds
        while record is not None and record.supervisor.is_alive:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    def end_remains(self, run_dir: str, record: MountRecord | None = None) -> None:
        """End what a supervisor that died has left, and remove its files. `record`: of it, if it was read before."""
        record = record or record_of(run_dir)
        if record is not None:
            for process in (record.supervisor, *record.daemons):
                end_process(process)
        remove_run_dir(run_dir)


def _store_spec(run_dir: Path, spec: MountSpec, owner: User) -> Path:
    path = run_dir / f"spec-{VERSION}.json"  # a predecessor of another version goes on reading its own, if we are refused
    with open(path, "w", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        os.chown(file.fileno(), owner.uid, owner.gid)
        file.write(spec.to_json())
    return path


def record_of(run_dir: str) -> MountRecord | None:
    with contextlib.suppress(OSError, ValueError):
        return MountRecord.load(run_dir)
    return None


async def _read_line(fd: int) -> bytes:
    """Read a pipe to the end of its first line, and close it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    try:
        return await reader.readline()
    finally:
        transport.close()


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")[-_TAIL_BYTES:].strip().replace("\n", "; ")
    return "nothing"
