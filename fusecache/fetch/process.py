"""The fetch process: from START to the end of the mount.

It opens index, tiers and sources, proves that the sources can be read, decides the access mode, reports ready, and serves until
told to stop. State that must survive it lies in the index and in custody's shared memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import mmap
import os
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from fusecache.base.adoption import adopt
from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Medium, MountSpec
from fusecache.contract.process import FETCH_FDS, ExitCode
from fusecache.contract.shared_memory import (
    ACCESS_UNDECIDED,
    H_ACCESS,
    H_STAGES_FULL,
    Layout,
)
from fusecache.fetch.access_mode import decide_access, wants_passthrough
from fusecache.fetch.cache import Cache
from fusecache.fetch.control_server import ControlServer
from fusecache.fetch.miss_server import MissServer
from fusecache.fetch.startup import drop_orphans, mark_clean, marks_path, open_index
from fusecache.fetch.status import StatusReport
from fusecache.fetch.walker import START_AFTER_SECONDS, Walker
from fusecache.index.environment import NoSpaceError
from fusecache.index.index import Index
from fusecache.index.sealed import IndexDamagedError
from fusecache.tiers.marks import Marks
from fusecache.tiers.memory_limit import MemoryShares, cgroup_limit_bytes, share_memory
from fusecache.tiers.tier import Tier

log = logging.getLogger(__name__)

_U64 = struct.Struct("<Q")
FINISH_LOOK_SECONDS = 0.1
STAGES_LOOK_SECONDS = 0.1  # a quota is passed by what can be written in this time
ORPHANED_SECONDS = 5.0  # without supervisor and without readers for so long: the mount is gone


class Fetch:
    """One life of the process."""

    def __init__(
        self, control: socket.socket, start: dict[str, Any], fds: dict[str, int], environment: Mapping[str, str]
    ) -> None:
        self._control = control
        self._start = start
        self._environment = environment
        self.spec = MountSpec.load(start["spec"])
        size = os.fstat(fds["shared_memory"]).st_size
        self._memory = mmap.mmap(fds["shared_memory"], size)
        self._bounce = mmap.mmap(fds["bounce"], os.fstat(fds["bounce"]).st_size)
        self._miss_listener = socket.socket(fileno=fds["miss_listener"])
        self._control_listener = socket.socket(fileno=fds["control_listener"])
        self._layout = Layout.read(self._memory)
        self._supervised = True
        self._stop = trio.Event()
        self._finish = trio.Event()
        self._exit = ExitCode.OK
        self._index: Index | None = None
        self._tiers: list[Tier] = []

    def _header(self, offset: int) -> int:
        return int(_U64.unpack_from(self._memory, offset)[0])

    async def run(self) -> int:
        """Return the exit status."""
        try:
            try:
                await self._run()
            except BaseExceptionGroup as group:
                raise first_of(group) from group
        except IndexDamagedError as error:
            log.error("the index is damaged: %s", error)
            return ExitCode.INDEX_DAMAGED
        except (OSError, NoSpaceError) as error:
            message = (
                f"the cache directory {self.spec.state_dir} cannot be used: {error}; "
                "free space there or choose another with -o cache_dir="
            )
            self._say({"did": "failed", "kind": int(ErrorKind.NO_SPACE), "message": message})
            return ExitCode.FAILED
        except CacheError as error:
            self._say({"did": "failed", "kind": int(error.kind), "message": str(error)})
            return ExitCode.FAILED
        return self._exit

    async def _run(self) -> None:
        limit = cgroup_limit_bytes()
        shares = share_memory(limit, self.spec.fetch_memory_bytes, len(self._bounce), self.spec.serve_processes)
        if limit is not None and shares.in_flight_bytes < self.spec.fetch_memory_bytes:
            log.info("memory limit of %d bytes: %d of them for bytes in flight", limit, shares.in_flight_bytes)
        self.spec = dataclasses.replace(self.spec, fetch_memory_bytes=shares.in_flight_bytes)
        self._tiers = make_tiers(self.spec, shares)
        self._index = index = open_index(self.spec, self._tiers, self._memory, drop=bool(self._start.get("drop_index")))
        marks = Marks(marks_path(self.spec), create=True)
        possible = bool(self._start.get("passthrough", os.geteuid() == 0))
        counters = CounterPage(self._memory, self._layout.fetch_counters)
        async with trio.open_nursery() as nursery:
            cache = Cache(
                self.spec,
                index,
                self._tiers,
                marks,
                self._memory,
                self._bounce,
                counters,
                nursery,
                self._environment,
                bounce_bytes=shares.bounce_bytes,
                keep_whole=wants_passthrough(self.spec, possible=possible),
            )
            server = MissServer(self.spec, cache, cache.bounced, nursery, self._index_is_damaged)
            nursery.start_soon(self._listen_to_supervisor)
            nursery.start_soon(self._listen_to_signals)
            await cache.arrange_roots()
            if self._start.get("fresh_connection", True):
                drop_orphans(index, cache.store)
                await check_sources(cache)
            if cache.desk is not None:
                await cache.desk.start(fresh_connection=bool(self._start.get("fresh_connection", True)))
            access = self._header(H_ACCESS)
            if access == ACCESS_UNDECIDED:
                access = await decide_access(self.spec, cache, possible=possible)
                _U64.pack_into(self._memory, H_ACCESS, access)
            status = StatusReport(cache, self._memory, self._layout, access, lambda: server.connections)
            nursery.start_soon(cache.run_ticks)
            nursery.start_soon(cache.evictor.run)
            nursery.start_soon(cache.scrubber.run)
            nursery.start_soon(server.serve, self._miss_listener)
            nursery.start_soon(ControlServer(cache, status).serve, self._control_listener)
            nursery.start_soon(self._walk, cache, status)
            nursery.start_soon(self._watch_orphanage, server)
            nursery.start_soon(cache.clean_up_containers)
            nursery.start_soon(self._finish_writes, cache)
            nursery.start_soon(self._watch_stages, cache)
            if cache.peers is not None:
                nursery.start_soon(cache.peers.run)
            self._say({"did": "ready", "index_id": index.index_id().hex(), "access": status.collect()["access"]})
            await self._stop.wait()
            nursery.cancel_scope.cancel()
        if self._exit is ExitCode.OK:
            mark_clean(index, self._tiers, Path(self.spec.state_dir))
        cache.close()

    async def _walk(self, cache: Cache, status: StatusReport) -> None:
        if self.spec.sync_listing:
            await trio.sleep(START_AFTER_SECONDS)
            await Walker(cache).run()
            status.listing_complete = True

    async def _watch_stages(self, cache: Cache) -> None:
        """Tell serve whether what is written has reached its quota, and have it uploaded before."""
        quota = self.spec.stage_quota_bytes
        while cache.desk is not None:
            files = cache.desk.files
            staged = files.staged_bytes() if quota else 0
            _U64.pack_into(self._memory, H_STAGES_FULL, 0 < quota <= staged)
            files.note_room(0 < quota <= 2 * staged)
            await trio.sleep(STAGES_LOOK_SECONDS)

    async def _finish_writes(self, cache: Cache) -> None:
        """When the mount is gone: bring up what is not in the store, and say how far that is."""
        await self._finish.wait()
        if cache.desk is None:
            return
        cache.desk.files.finish()
        while True:
            files, size = cache.desk.files.pending()
            self._say({"did": "finishing", "files": files, "bytes": size if files else 0})
            if not files:
                return
            await trio.sleep(FINISH_LOOK_SECONDS)

    def _index_is_damaged(self, error: IndexDamagedError) -> None:
        log.error("the index is damaged: %s; it will be built again", error)
        self._exit = ExitCode.INDEX_DAMAGED
        self._stop.set()

    # -- the supervisor

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError as error:
            log.info("the supervisor does not listen: %s", error)

    async def _listen_to_supervisor(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._control)
            try:
                data = self._control.recv(65536)
            except OSError:
                data = b""
            if not data:
                self._supervised = False
                return
            order = json.loads(data).get("do")
            if order == "ping":
                self._say({"did": "pong"})
            elif order == "finish":
                self._finish.set()
            elif order == "stop":
                self._stop.set()
                return

    async def _listen_to_signals(self) -> None:
        """SIGTERM means stop, too: `fusecache umount` sends it when there is no supervisor any more."""
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                self._stop.set()

    async def _watch_orphanage(self, server: MissServer) -> None:
        """Without a supervisor fetch goes on as long as somebody reads."""
        alone = 0.0
        while True:
            await trio.sleep(0.5)
            alone = alone + 0.5 if not self._supervised and server.connections == 0 else 0.0
            if alone >= ORPHANED_SECONDS:
                log.info("neither supervisor nor readers are left: stopping")
                self._stop.set()
                return


def first_of(group: BaseExceptionGroup) -> BaseException:
    """Return the one exception of a nursery's group that says why the process ends: a known kind before an unknown one."""
    leaves: list[BaseException] = []
    line: list[BaseException] = [group]
    while line:
        error = line.pop()
        if isinstance(error, BaseExceptionGroup):
            line.extend(error.exceptions)
        else:
            leaves.append(error)
    known = [leaf for leaf in leaves if isinstance(leaf, (CacheError, IndexDamagedError, NoSpaceError, OSError))]
    return (known or leaves)[0]


def make_tiers(spec: MountSpec, shares: MemoryShares) -> list[Tier]:
    """Return the tiers in the spec's order, MEM quotas cut to what the memory limit allows."""
    tiers = []
    left = shares.memory_tier_bytes
    for number, tier in enumerate(spec.tiers):
        quota = tier.quota_bytes
        if tier.medium is Medium.MEM and left is not None:
            quota = min(quota, left)
            left -= quota
        if quota < tier.quota_bytes:
            log.warning("tier %s: the quota is cut to %d bytes by the memory limit of the cgroup", tier.path, quota)
        tiers.append(Tier(number, tier, quota))
        if quota:
            tiers[-1].note_small_quota(spec.block_size_bytes)
    return tiers


async def check_sources(cache: Cache) -> None:
    """Prove that every source may be read. Raises: CacheError with a sentence for the user."""
    problems: list[CacheError] = []

    async def check(run: Any) -> None:
        try:
            await run()
        except CacheError as error:
            problems.append(error)

    async with trio.open_nursery() as nursery:
        for opened in cache.sources.all:

            async def run(opened: Any = opened) -> None:
                await opened.gate.call(opened.source.check)

            nursery.start_soon(check, run)
    if problems:
        raise problems[0]


def receive_start(control: socket.socket) -> tuple[dict[str, Any], dict[str, int]] | None:
    """Say that we are warm, and block until START arrives (a spare may wait for hours). Return it with its descriptors, or None
    if the supervisor is gone."""
    with contextlib.suppress(OSError):
        control.send(json.dumps({"did": "warm"}).encode())
    while True:
        data, fds, _, _ = socket.recv_fds(control, 65536, len(FETCH_FDS))
        if not data:
            return None
        message = json.loads(data)
        if message.get("do") == "stop":
            return None
        if message.get("do") == "adopt":
            adopt(fds)
            continue
        if message.get("do") == "start":
            return message, dict(zip(FETCH_FDS, fds, strict=True))
        log.warning("unexpected message %r", message)
