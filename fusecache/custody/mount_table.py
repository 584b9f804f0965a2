"""The mounts of this user as their run directories tell: one `mount.json` each.

Owns the format of mount.json (below). The supervisor writes it after each change, by rename; status, umount, doctor and mount
read it.

| field | meaning |
|---|---|
| mountpoint, dataset_id, sources, engine | as in the spec; engine is the one in use |
| run_dir, state_dir | directories of the mount |
| device | st_dev of the mount, "0:39"; "" before it is mounted. The minor number is the connection in fusectl |
| version | of the program that serves the mount |
| state | "starting", "ready", "degraded" (a daemon cannot start, see last_error), "stopping" |
| access | "openless" or "passthrough", as fetch decided; "" before |
| supervisor, fetch | {pid, start_time}; fetch null while there is none. start_time: field 22 of /proc/PID/stat |
| serve, spares | lists of the same |
| restarts | daemons that died and were replaced |
| index_rebuilds | how often the index was dropped because daemons died of it |
| last_error | sentence, "" if none |
| passthrough_problem, read_ahead_problem | why not, "" if nothing is wrong |
| mounted_at | wall clock, seconds since 1970 |
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fusecache.contract.keeping import CUSTODY_SOCKET, KEPT_MARK
from fusecache.contract.run_files import MOUNT_STATE
from fusecache.custody import kernel
from fusecache.custody.mountinfo import is_mounted


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    start_time: int

    @property
    def is_alive(self) -> bool:
        return kernel.process_start_time(self.pid) == self.start_time

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        return cls(pid, kernel.process_start_time(pid) or 0)


@dataclass(slots=True)
class MountRecord:
    """mount.json; the fields are described above."""

    mountpoint: str
    dataset_id: str
    sources: list[str]
    engine: str
    run_dir: str
    state_dir: str
    supervisor: ProcessId
    device: str = ""
    state: str = "starting"
    access: str = ""
    fetch: ProcessId | None = None
    serve: list[ProcessId] = field(default_factory=list)
    spares: list[ProcessId] = field(default_factory=list)
    restarts: int = 0
    index_rebuilds: int = 0
    last_error: str = ""
    passthrough_problem: str = ""
    read_ahead_problem: str = ""
    mounted_at: float = 0.0
    version: str = ""

    @property
    def daemons(self) -> list[ProcessId]:
        """Everything but the supervisor."""
        return [*([self.fetch] if self.fetch else []), *self.serve, *self.spares]

    @property
    def is_supervised(self) -> bool:
        return self.supervisor.is_alive

    @property
    def is_mounted(self) -> bool:
        return bool(self.device) and is_mounted(self.mountpoint, self.device)

    @property
    def is_leftover(self) -> bool:
        """Nothing of it is alive or mounted: only files remain."""
        return not self.is_supervised and not self.is_mounted and not any(process.is_alive for process in self.daemons)

    def store(self) -> None:
        path = os.path.join(self.run_dir, MOUNT_STATE)
        with open(path + ".new", "w", opener=_private) as file:
            file.write(json.dumps(asdict(self), indent=1))
        os.rename(path + ".new", path)

    @classmethod
    def load(cls, run_dir: str) -> MountRecord:
        """Raises: OSError, ValueError (not a record of this version)."""
        with open(os.path.join(run_dir, MOUNT_STATE)) as file:
            raw: dict[str, Any] = json.load(file)
        try:
            raw["supervisor"] = ProcessId(**raw["supervisor"])
            raw["fetch"] = ProcessId(**raw["fetch"]) if raw["fetch"] else None
            raw["serve"] = [ProcessId(**one) for one in raw["serve"]]
            raw["spares"] = [ProcessId(**one) for one in raw["spares"]]
            known = {one.name for one in fields(cls)}
            record = cls(**{name: value for name, value in raw.items() if name in known})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{run_dir}/{MOUNT_STATE} is no mount record: {error}") from error
        record.run_dir = run_dir
        return record


def end_process(process: ProcessId) -> None:
    """Kill exactly this process, if it is there still."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        pidfd = os.pidfd_open(process.pid)
        try:
            if process.is_alive:  # looked at after opening: now the pid cannot change hands any more
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def run_root(uid: int, xdg_runtime_dir: str | None) -> str:
    """Return the directory that holds the run directories of this user's mounts."""
    if uid == 0:
        return "/run/fusecache"
    return f"{xdg_runtime_dir}/fusecache" if xdg_runtime_dir else f"/tmp/fusecache-{uid}"


def list_mounts(root: str) -> list[MountRecord]:
    """Return the records of all run directories below `root`, those of dead supervisors too.

    Directories without a record are left out.
    """
    records = []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(root)):
            with contextlib.suppress(OSError, ValueError):
                records.append(MountRecord.load(os.path.join(root, name)))
    return records


def find_record(root: str, mountpoint: str) -> MountRecord | None:
    """Return the record of the mount at `mountpoint` (absolute, resolved), a supervised one if there are several."""
    found = [record for record in list_mounts(root) if record.mountpoint == mountpoint]
    return max(found, key=lambda record: (record.is_supervised, record.is_mounted), default=None)


def remove_run_dir(run_dir: str) -> None:
    """Remove a run directory with the files in it. What is not there, or not ours, is left alone.

    Of one that is custody's directory of the mount, too (a cache pod has no other), what belongs to custody stays."""
    with contextlib.suppress(OSError):
        for name in set(os.listdir(run_dir)) - {CUSTODY_SOCKET, KEPT_MARK}:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(run_dir, name))
        os.rmdir(run_dir)


def remove_leftovers(root: str, own_run_dir: str) -> list[str]:
    """Remove run directories of which nothing lives any more, but `own_run_dir`; returns their mount points.

    Called when a new mount is made. Its run directory may have been another one's before.
    """
    leftovers = [record for record in list_mounts(root) if record.is_leftover and record.run_dir != own_run_dir]
    for record in leftovers:
        remove_run_dir(record.run_dir)
    return [record.mountpoint for record in leftovers]
