"""The driver's side of custody: has mounts made and taken away, and custody itself started where nobody else does it.

State: the process that was started, to be reaped. Used from one event loop; questions are asked in threads, with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from csi.mounting.ownership import make_passable
from csi.mounting.processes import reap_some_time
from fusecache.base.run_sockets import connect_in
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.keeping import ADMIN_SOCKET, KEEPER_FILE, MOUNTS_DIR
from fusecache.contract.mount_spec import MountSpec, Verify
from fusecache.custody.mount_table import ProcessId
from fusecache.custody.spawn import supervisor_environment

ASK_SECONDS = 10.0
START_SECONDS = 10.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class MountOrder:
    """What custody is to mount; the fields are those of contract/keeping.py. `uid`: who may have it."""

    id: str
    mountpoint: str
    serve_count: int
    read_write: bool
    allow_other: bool
    uid: int
    tiers: tuple[str, ...]
    passthrough: bool

    @classmethod
    def of_spec(cls, spec: MountSpec, uid: int) -> Self:
        return cls(
            id=spec.dataset_id,
            mountpoint=spec.mountpoint,
            serve_count=spec.serve_processes,
            read_write=spec.read_write,
            allow_other=spec.allow_other,
            uid=uid,
            tiers=tuple(tier.path for tier in spec.tiers),
            passthrough=spec.verify is not Verify.ALWAYS,
        )

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**{**raw, "tiers": tuple(raw["tiers"])})


@dataclass(frozen=True, slots=True)
class Held:
    """A mount as custody tells of it (contract/keeping.py)."""

    mountpoint: str
    device: str
    has_daemon: bool
    is_held: bool
    is_initialized: bool
    is_connected: bool

    @property
    def is_fine(self) -> bool:
        """Custody has it, and it is not ended: a daemon may come for it."""
        return self.is_held and self.is_connected

    @property
    def is_served(self) -> bool:
        """A daemon has it, and INIT was answered: whoever reads in it is answered."""
        return self.has_daemon and self.is_initialized


class Custody:
    """`root`: its directory. `environment`: for the process, if it is ours to start; no credential is taken from it. None:
    somebody else runs it. `grace_seconds`: that it lets a mount be without a daemon."""

    def __init__(self, root: Path, environment: Mapping[str, str] | None, grace_seconds: float) -> None:
        self._root = root
        self._grace_seconds = grace_seconds
        self._environment = None
        if environment is not None:
            self._environment = {name: environment[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in environment}
        self._starting = asyncio.Lock()
        self.descriptors = 0  # that it holds, when it was last asked

    def socket_directory(self, dataset: str) -> str:
        return str(self._root / MOUNTS_DIR / dataset)

    async def ensure_running(self) -> None:
        """Start it if it is not there, and ours to start. Raises: CacheError."""
        if self._environment is None:
            return
        async with self._starting:  # a call and the one that looks after mounts must not start two
            if not self._is_alive():
                await self._start(self._environment)

    async def _start(self, environment: Mapping[str, str]) -> None:
        make_passable(self._root)
        pid = _spawn(self._root, environment, self._grace_seconds)
        reap_some_time(pid)
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(CacheError):
                await self.mounts()
                return
        raise CacheError(ErrorKind.TIMEOUT, f"custody did not answer within {START_SECONDS:g} s; see {self._root}/log")

    def _is_alive(self) -> bool:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return ProcessId(**json.loads((self._root / KEEPER_FILE).read_text())).is_alive
        return False

    async def mount(self, order: MountOrder) -> str:
        """Return the device of the mount, made if it is not there. Raises: CacheError; EXISTS if it is there in another way."""
        return str((await self._ask({"do": "mount", **asdict(order)}))["device"])

    async def unmount(self, dataset: str, *, abort: bool = False) -> None:
        """Take the mount away, busy or not; its daemon sees that. One that is not there is no error. `abort`: the daemon does not
        answer. Raises: CacheError."""
        await self._ask({"do": "unmount", "id": dataset, "detach": True, "abort": abort})

    async def note_use(self, dataset: str, volumes: list[str]) -> None:
        await self._ask({"do": "use", "id": dataset, "volumes": volumes})

    async def mounts(self) -> dict[str, Held]:
        answer = await self._ask({"do": "list"})
        self.descriptors = int(answer.get("descriptors", 0))
        known = [field.name for field in fields(Held)]
        # A custody that was started before this version says less; nobody asks it for that.
        return {name: Held(**{field: one.get(field, True) for field in known}) for name, one in answer["mounts"].items()}

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises: CacheError: its answer, or UNAVAILABLE."""
        try:
            answer = await asyncio.to_thread(_ask, str(self._root), request)
        except (OSError, ValueError) as error:
            raise CacheError(ErrorKind.UNAVAILABLE, f"custody does not answer in {self._root}: {error}") from error
        if "error" in answer:
            raise CacheError(ErrorKind(int(answer.get("kind", ErrorKind.BUG))), str(answer["error"]))
        return answer


def _ask(root: str, request: Mapping[str, Any]) -> dict[str, Any]:
    with connect_in(root, ADMIN_SOCKET, socket.SOCK_STREAM, ASK_SECONDS) as connection, connection.makefile("rb") as lines:
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(lines.readline() or b"null")
    if not isinstance(answer, dict):
        raise ValueError("it went away while it was asked")
    return answer


def _spawn(root: Path, environment: Mapping[str, str], grace_seconds: float) -> int:
    """In a session of its own: it outlives us."""
    log = os.open(root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        actions: list[Any] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        arguments = [sys.executable, "-P", "-m", "fusecache.custody.keeper", "--root", str(root)]
        arguments += ["--grace", str(grace_seconds)]
        return os.posix_spawn(sys.executable, arguments, supervisor_environment(environment), file_actions=actions, setsid=True)
    finally:
        os.close(log)
