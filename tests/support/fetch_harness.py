"""The whole writer without a process and without a mount: the real Cache and MissServer in a trio loop of their own thread,
real index and tiers in a temporary directory, and a reader that does what an engine does.

The test's thread owns the harness; `call` runs code in the loop. One life is from `start` to `stop` (a clean stop) or `kill`
(nothing is said or synced, as SIGKILL would). Errors of the loop are raised by whoever ends the life.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import trio
import trio.testing

from fusecache.base.counters import CounterPage
from fusecache.contract import run_files
from fusecache.contract.mount_spec import Medium, MountSpec, SourceSpec, TierSpec
from fusecache.contract.shared_memory import PAGE, Counter
from fusecache.fetch import startup
from fusecache.fetch.bounce import SLOT_BYTES
from fusecache.fetch.cache import Cache
from fusecache.fetch.miss_server import MissServer
from fusecache.index.index import Index
from fusecache.index.sealed import IndexDamagedError
from fusecache.serve.filesystem import CacheFilesystem
from fusecache.serve.miss_client import SocketMissClient
from fusecache.tiers.marks import Marks
from fusecache.tiers.tier import Tier
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource
from tests.support.index_check import Report, check_index

T = TypeVar("T")

BLOCK, GRANULE = 16, 8  # so small that edges come up often
PATIENCE_SECONDS = 20.0
REST_SECONDS = 10.0  # how long the writer may take to come to rest


def spec_of(path: Path, *quotas: int, urls: Mapping[str, str] | None = None, **fields: Any) -> MountSpec:
    """A spec whose tiers are MEM, SSD, SSD ... of these quotas. `urls`: subdir -> URL, one source at the root by default."""
    tiers = tuple(
        TierSpec(str(path / f"tier{number}"), Medium.SSD if number else Medium.MEM, quota) for number, quota in enumerate(quotas)
    )
    defaults: dict[str, Any] = {
        "dataset_id": "0" * 32,
        "mountpoint": str(path / "mnt"),
        "sources": tuple(SourceSpec(url, subdir) for subdir, url in (urls or {"": "fake://store"}).items()),
        "tiers": tiers,
        "state_dir": str(path / "state"),
        "run_dir": str(path / "run"),
        "block_size_bytes": BLOCK,
        "granule_size_bytes": GRANULE,
        "deadline_seconds": 30.0,
        "prefetch": False,
    }
    return MountSpec(**{**defaults, **fields})


class FetchHarness:
    """Attributes:
    now: added to the wall clock of writer and readers: seconds that passed.
    rate: how much faster than the wall clock the writer's pauses and patience pass (trio's clock; not time.monotonic). Too
        much of it, and a busy machine looks like a store that does not answer.
    """

    def __init__(
        self,
        spec: MountSpec,
        *sources: FakeSource,
        keep_whole: bool = False,
        bounce_slots: int = 2,
        ticks: bool = True,
        rate: float = 1.0,
    ) -> None:
        self.spec = spec
        self.now = 0.0
        self._sources = {source.url: source for source in sources}
        self._keep_whole = keep_whole
        self._ticks = ticks
        self._rate = rate
        self._clean = False
        self._memory = mmap.mmap(-1, 4 * PAGE)
        self._started = False
        self._bounce_fd = os.memfd_create("bounce")
        os.ftruncate(self._bounce_fd, bounce_slots * SLOT_BYTES)
        Path(spec.run_dir).mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        # Relative to a descriptor: the paths of test directories are longer than sun_path.
        self._run_directory = os.open(spec.run_dir, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{self._run_directory}/{run_files.MISS_SOCKET}")
        self._listener.listen(16)
        self._readers: list[CacheReader] = []
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.damages: list[IndexDamagedError] = []
        self.cache: Cache
        self.server: MissServer
        self.index: Index
        self.tiers: list[Tier]
        self.marks: Marks

    def clock(self) -> float:
        return time.time() + self.now

    # -- one life

    def start(self, *, drop: bool = False, fresh_connection: bool = True) -> FetchHarness:
        ready = threading.Event()
        self._failure = None
        self._started = self._clean = False

        def run() -> None:
            try:
                trio.run(self._main, ready, drop, fresh_connection, clock=trio.testing.MockClock(rate=self._rate))
            except BaseException as error:
                self._failure = error
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="fetch loop")
        self._thread.start()
        ready.wait()
        if not self._started:
            self._end_thread()
        return self

    async def _main(self, ready: threading.Event, drop: bool, fresh_connection: bool) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._over = trio.Event()
        self.tiers = [Tier(number, tier, tier.quota_bytes) for number, tier in enumerate(self.spec.tiers)]
        self.index = startup.open_index(self.spec, self.tiers, self._memory, drop=drop)
        self.marks = Marks(startup.marks_path(self.spec), create=True)
        self.counters = CounterPage(self._memory, PAGE)
        bounce = mmap.mmap(self._bounce_fd, 0)
        with self._listener.dup() as listener:
            await self._live(bounce, listener, ready, fresh_connection)
        self.cache.close()
        bounce.close()

    async def _live(self, bounce: mmap.mmap, listener: socket.socket, ready: threading.Event, fresh_connection: bool) -> None:
        async with trio.open_nursery() as nursery:
            self.cache = Cache(
                self.spec,
                self.index,
                self.tiers,
                self.marks,
                self._memory,
                bounce,
                self.counters,
                nursery,
                {},
                keep_whole=self._keep_whole,
                opener=lambda url, options, environment: self._sources[url],
                clock=self.clock,
            )
            self.server = MissServer(self.spec, self.cache, self.cache.bounced, nursery, self.damages.append)
            await self.cache.arrange_roots()
            if fresh_connection:
                startup.drop_orphans(self.index, self.cache.store)
            if self._ticks:
                nursery.start_soon(self.cache.run_ticks)
            nursery.start_soon(self.cache.evictor.run)
            if self.cache.peers is not None:
                nursery.start_soon(self.cache.peers.run)
            nursery.start_soon(self.server.serve, listener)
            nursery.start_soon(self._clean_up)
            self._started = True
            ready.set()
            await self._over.wait()
            nursery.cancel_scope.cancel()

    async def _clean_up(self) -> None:
        await self.cache.clean_up_containers()
        self._clean = True

    def stop(self) -> None:
        """A clean stop."""
        self._end_life()
        startup.mark_clean(self.index, self.tiers, Path(self.spec.state_dir))
        self._close_files()

    def kill(self) -> None:
        """As SIGKILL: what was not committed is lost, nothing is marked clean."""
        self._end_life()
        self._close_files()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        """What the kernel does for a process that is killed in the middle of writing blocks."""
        prefixes = tuple(f"{tier.path}/c/" for tier in self.tiers)
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if prefixes and os.readlink(f"/proc/self/fd/{fd}").startswith(prefixes):
                    os.close(int(fd))

    def _end_life(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._over.set)
        self._end_thread()
        for thread in self.cache.workers.threads:  # those of a killed process do not go on writing
            thread.join()

    def _end_thread(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        if self._failure is not None:
            raise self._failure

    def _close_files(self) -> None:
        for tier in self.tiers:
            tier.close_writable()
        self.index.close()
        self.marks.close()

    def close(self) -> None:
        """End whatever still lives, and what outlives a life."""
        try:
            if self._thread is not None:
                self.kill()
        finally:
            self._listener.close()
            os.close(self._bounce_fd)
            os.close(self._run_directory)

    def __enter__(self) -> FetchHarness:
        return self if self._thread is not None else self.start()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None and self._thread is not None:
                self.check()
        finally:
            self.close()

    # -- working with it

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run an async function in the loop. Raises trio.TooSlowError instead of waiting for ever."""

        async def run() -> T:
            with trio.fail_after(PATIENCE_SECONDS * self._rate):
                return await function(*arguments)

        return trio.from_thread.run(run, trio_token=self._token)

    def call_sync(self, function: Callable[..., T], *arguments: Any) -> T:
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    def reader(self) -> CacheReader:
        """A new reader, as another serve process would be; closed with this life at the latest."""
        misses = SocketMissClient(f"/proc/self/fd/{self._run_directory}", len(self._readers))
        counters = memoryview(bytearray(PAGE)).cast("Q")
        filesystem = CacheFilesystem(
            self.index,
            self.marks,
            self.spec,
            misses,
            counters,
            bounce_fd=self._bounce_fd,
            clock=self.clock,
            on_index_damaged=self.damages.append,
        )
        reader = CacheReader(filesystem, misses, counters)
        misses.start()
        self._readers.append(reader)
        return reader

    def rest(self) -> None:
        """Wait until the writer has nothing to do: no flight, no reservation, no lease, no range that waits for a reader."""
        deadline = time.monotonic() + REST_SECONDS
        while not self.call_sync(self._is_at_rest):
            assert time.monotonic() < deadline, f"the writer does not come to rest: {self.call_sync(self._what_is_left)}"
            time.sleep(0.001)

    def _is_at_rest(self) -> bool:
        self.cache.store.reclaim()
        return not any(self._what_is_left().values())

    def _what_is_left(self) -> dict[str, Any]:
        store = self.cache.store
        return {
            "cleaning up": not self._clean,
            "flights": self.cache.flights.count_in_flight,
            "waiters": len(self.cache.flights._waiters),
            "passes": len(self.cache.listing._passes),
            "reservations": dict(store._users),
            "leases": dict(store.leases),
            "forgotten": len(list(store.forgotten.waiting())),
            "bytes in flight": self.cache.flights.bytes_in_flight,
            "jobs": self.cache.workers._running,
            "bounced": len(self.cache.bounced._reads),
            "slots": dict(self.cache.bounced.buffer._holders),
            "above the watermark": [
                tier.number for tier in self.tiers if tier.used_bytes > tier.high_bytes and tier.quota_bytes and self._ticks
            ],
        }

    def check(self, *, damage: bool = False) -> Report:
        """Bring the writer to rest and check everything (tests/support/index_check.py)."""

        def check_at_rest() -> Report | None:
            # In one step of the loop: the evictor may wake between two.
            return check_index(self.index, self.tiers, self.cache.store, damage=damage) if self._is_at_rest() else None

        while True:
            self.rest()
            report = self.call_sync(check_at_rest)
            if report is not None:
                return report

    def counter(self, counter: Counter) -> int:
        return self.counters.get(counter)

    def with_spec(self, **fields: Any) -> None:
        """Change the spec for the next life."""
        self.spec = replace(self.spec, **fields)

    def with_sources(self, sources: Mapping[str, FakeSource], options: Mapping[str, str] | None = None) -> None:
        """Mount others in the next life: subdir -> source; `options` for each."""
        self._sources = {source.url: source for source in sources.values()}
        self.with_spec(sources=tuple(SourceSpec(source.url, subdir, options or {}) for subdir, source in sources.items()))


@contextlib.contextmanager
def fetching(
    path: Path, source: FakeSource, quotas: Sequence[int] = (1 << 20, 1 << 20), **fields: Any
) -> Iterator[tuple[FetchHarness, CacheReader]]:
    """A running writer over one source with one reader; checked at the end."""
    options = {name: fields.pop(name) for name in ("keep_whole", "bounce_slots", "ticks", "rate") if name in fields}
    harness = FetchHarness(spec_of(path, *quotas, **fields), source, **options)
    with harness.start():
        yield harness, harness.reader()
