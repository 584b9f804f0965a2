"""The state machine: the real writer and the real filesystem against a dictionary of path -> versions.

Everything that a bad day may do happens between reads: objects are replaced, grow, shrink and go, blocks are evicted and
damaged, a tier's directory vanishes, calls of the store fail, the writer stops or dies and starts again, with another source as
well. What must hold after each step: bytes come from exactly one version, a listing that was refreshed equals the dictionary,
quotas are kept, and the independent check of the index finds nothing.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch.warm import Warm, drop, refresh
from fusecache.fuse.filesystem_protocol import ROOT_INODE, Attributes
from fusecache.tiers.container_files import container_path
from fusecache.tiers.eviction import pick_victims
from fusecache.tiers.victims import Search
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import Way, content, make_source
from tests.support.fetch_harness import BLOCK, FetchHarness, spec_of
from tests.support.index_check import PAGE

LONG = 1e6  # a TTL that only `wait` lets pass
RATE = 10.0  # pauses of the writer pass so much faster
PATHS = tuple("/".join(parts) for length in (1, 2) for parts in itertools.product("ab", repeat=length))
QUOTAS = ((4 * PAGE, 8 * PAGE), (64 * PAGE,), (2 * PAGE, 3 * PAGE, 64 * PAGE), (0,), ())
SIZES = st.one_of(st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5]), st.integers(0, 6 * BLOCK))
PASSING = (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT)
LASTING = (ErrorKind.UNAVAILABLE, ErrorKind.DENIED, ErrorKind.NOT_FOUND, ErrorKind.STALE, ErrorKind.CORRUPT, ErrorKind.BUG)


@dataclass
class Pin:
    """What a reader that holds an inode may see: the versions that agree with everything it saw so far."""

    path: str
    candidates: list[bytes]
    was_gone: bool = False  # the store held something else there, if only for a moment


class CacheMachine(RuleBasedStateMachine):
    """`parent` is where the directories of the runs go. `steps` and `divergences` count over all runs."""

    parent: ClassVar[Path]
    steps: ClassVar[collections.Counter[str]] = collections.Counter()

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(dir=self.parent))
        self.history: dict[str, list[bytes]] = collections.defaultdict(list)
        self.current: dict[str, bytes] = {}
        self.pins: dict[int, Pin] = {}
        self.versions = itertools.count()
        self.damaged = False
        self.lost_a_tier = False
        self.troubled = False  # the store answered nonsense: pins may be stale for ever
        self.snapshot: Any = None
        self.snapshot_steps = 0

    @initialize(
        quotas=st.sampled_from(QUOTAS),
        ttl=st.sampled_from([0.0, LONG]),
        way=st.sampled_from(Way),
        needs_stat=st.booleans(),
        keep_whole=st.booleans(),
        prefetch=st.booleans(),
        sizes=st.dictionaries(st.sampled_from(PATHS), SIZES, max_size=5),
    )
    def begin(
        self,
        quotas: tuple[int, ...],
        ttl: float,
        way: Way,
        needs_stat: bool,
        keep_whole: bool,
        prefetch: bool,
        sizes: dict[str, int],
    ) -> None:
        self.way = way
        self.source = make_source(way, page_size=2, needs_stat=needs_stat)
        spec = spec_of(self.path, *quotas, ttl_seconds=ttl, prefetch=prefetch)
        self.harness = FetchHarness(spec, self.source, keep_whole=keep_whole, rate=RATE)
        self.harness.start()
        self.reader: CacheReader = self.harness.reader()
        for path, size in sizes.items():
            self.write(path, size)
            self.read(path, 0, 1000)

    def teardown(self) -> None:
        try:
            if hasattr(self, "harness"):
                self._let_go()
                self.harness.close()
        finally:
            shutil.rmtree(self.path, ignore_errors=True)

    # -- the reference

    def is_directory(self, path: str) -> bool:
        return path == "" or any(key.startswith(path + "/") for key in self.current)

    def is_file(self, path: str) -> bool:
        return path in self.current and not self.is_directory(path)  # a directory shadows a file of its name

    def children(self, path: str) -> set[bytes]:
        prefix = path + "/" if path else ""
        return {key[len(prefix) :].partition("/")[0].encode() for key in self.current if key.startswith(prefix)}

    @property
    def is_exact(self) -> bool:
        """Whether names are asked for at the source each time."""
        return self.harness.spec.ttl_seconds == 0.0

    # -- the store

    @rule(path=st.sampled_from(PATHS), size=SIZES)
    def write(self, path: str, size: int) -> None:
        self._count("write")
        data = content(f"{path} {next(self.versions)}", size)
        self.source.put(path, data)
        self.history[path].append(data)
        self.current[path] = data
        self._note_what_went()

    @rule(path=st.sampled_from(PATHS))
    def delete(self, path: str) -> None:
        self._count("delete")
        for key in [key for key in self.current if key == path or key.startswith(path + "/")]:
            del self.current[key]
        self.source.remove(path)
        self._note_what_went()

    @rule(
        times=st.integers(1, 3), kind=st.sampled_from(PASSING), method=st.sampled_from(["", "read", "piece", "list_page", "stat"])
    )
    def fail_some_calls(self, times: int, kind: ErrorKind, method: str) -> None:
        """Worth a retry: nobody may notice."""
        self._count("fail")
        self.source.fail(times, kind, method)

    @rule(times=st.integers(1, 4), kind=st.sampled_from(LASTING), method=st.sampled_from(["", "read", "list_page", "stat"]))
    def bad_hour(self, times: int, kind: ErrorKind, method: str) -> None:
        """Answers that no retry mends, lies among them: readers may get errors, never wrong bytes. Afterwards all is well."""
        self._count("bad hour")
        self.source.fail(times, kind, method)
        for path in PATHS:
            with contextlib.suppress(CacheError):
                found = self._look(path)
                if found is not None and stat.S_ISREG(found.mode):
                    self._read_pinned(found.inode, 0, 1000)
                elif found is not None:
                    self.reader.names(found.inode)
        self.source.mend()
        self.troubled = True
        self.harness.call(refresh, self.harness.cache, [b""])
        self._compare_everything("")

    # -- readers

    @rule(path=st.sampled_from(PATHS), offset=st.integers(0, 6 * BLOCK), size=st.integers(1, 6 * BLOCK))
    def read(self, path: str, offset: int, size: int) -> None:
        self._count("read")
        found = self._find(path)
        if found is None or not stat.S_ISREG(found.mode):
            if self.is_exact:
                assert not self.is_file(path), f"{path} is not shown as a file"
            return
        try:
            self._read_pinned(found.inode, offset, size)
        except CacheError as error:
            _must_be(error, ErrorKind.STALE)
            assert not self.is_exact, f"{path} was looked up a moment ago, and is stale"
            again = self._find(path)  # what was stale is asked for anew
            assert (again is not None and stat.S_ISREG(again.mode)) == self.is_file(path), f"{path} after ESTALE: {again}"
            if again is not None and stat.S_ISREG(again.mode):
                assert again.inode != found.inode, f"{path} is the same inode after ESTALE"
                assert self.reader.read(again.inode, 0, 1000) == self.current[path]
            return
        if self.is_exact:
            assert self.is_file(path), f"{path} does not exist"
            assert self.reader.read(found.inode, 0, 1000) == self.current[path], f"{path} is not read as it is now"

    @rule(number=st.integers(0, 9), offset=st.integers(0, 6 * BLOCK), size=st.integers(1, 6 * BLOCK))
    def read_what_is_open(self, number: int, offset: int, size: int) -> None:
        """A file that was opened a while ago: its version to the end, or ESTALE if that is not at the store any more."""
        if not self.pins:
            return
        self._count("read open file")
        inode = sorted(self.pins)[number % len(self.pins)]
        pin = self.pins[inode]
        try:
            self._read_pinned(inode, offset, size)
        except CacheError as error:
            _must_be(error, ErrorKind.STALE)
            is_current = self.is_file(pin.path) and pin.candidates == [self.current[pin.path]]
            assert self.troubled or pin.was_gone or not is_current, (
                f"{pin.path} is stale though the store holds that very version"
            )

    @rule(path=st.sampled_from(("", "a", "b")))
    def list_directory(self, path: str) -> None:
        self._count("list")
        found = self._find(path)
        if found is None or not stat.S_ISDIR(found.mode):
            assert not self.is_exact or not self.is_directory(path) or not path, f"{path} is not shown as a directory"
            return
        try:
            names = self.reader.names(found.inode)
        except CacheError as error:
            _must_be(error, ErrorKind.STALE, ErrorKind.NOT_FOUND)
            return
        assert len(names) == len(set(names)), f"a name comes twice: {names}"
        if self.is_exact:
            assert set(names) == self.children(path)

    @rule(path=st.sampled_from(PATHS), size=SIZES)
    def replace_while_it_is_read(self, path: str, size: int) -> None:
        """The object changes between the lookup and the store's answer."""
        self._count("replace while reading")
        found = self._find(path)
        if found is None or not stat.S_ISREG(found.mode):
            return
        fresh = content(f"{path} {next(self.versions)}", size)

        def replace(method: str, asked: bytes) -> None:
            if method in ("read", "stream") and asked == path.encode():
                self.source.before = None
                self.source.put(path, fresh)
                self.history[path].append(fresh)
                self.current[path] = fresh
                self._note_what_went()

        self.source.before = replace
        try:
            self._read_pinned(found.inode, 0, 1000)
        except CacheError as error:
            _must_be(error, ErrorKind.STALE)
        finally:
            self.source.before = None

    # -- what people do

    @rule()
    def refresh(self) -> None:
        """Afterwards everything is as it is at the store."""
        self._count("refresh")
        self.harness.call(refresh, self.harness.cache, [b""])
        self._compare_everything("")

    @rule(path=st.sampled_from(("", *PATHS)))
    def warm(self, path: str) -> None:
        self._count("warm")
        warm = Warm(self.harness.cache, WarmRequest((path,)))
        try:
            progress = self.harness.call(warm.run)
        except CacheError as error:
            _must_be(error, ErrorKind.NOT_FOUND, ErrorKind.NOT_A_DIRECTORY, ErrorKind.STALE)
            return
        assert progress.files + progress.failures == progress.files_total
        # A tier's directory that is gone is noticed later, also after a block was put into a container that went with it.
        has_room = sum(tier.quota_bytes for tier in self.harness.tiers) >= 64 * PAGE
        if self.is_exact and has_room and not self.lost_a_tier:
            assert not progress.failed, progress.failed

    @rule(path=st.sampled_from(("", *PATHS)))
    def drop(self, path: str) -> None:
        self._count("drop")
        try:
            self.harness.call(drop, self.harness.cache, [path.encode()])
        except CacheError as error:
            _must_be(error, ErrorKind.NOT_FOUND, ErrorKind.NOT_A_DIRECTORY, ErrorKind.STALE)

    @rule()
    def wait(self) -> None:
        """Everything that was known is out of date."""
        self._count("ttl passes")
        self.harness.now += 2 * LONG

    # -- the machine

    @rule(tier=st.integers(0, 2), size=st.integers(1, 4))
    def evict(self, tier: int, size: int) -> None:
        self._count("evict")

        def evict() -> None:
            store = self.harness.cache.store
            if tier < len(store.tiers):
                store.forget(
                    (victim.inode, victim.block) for victim in pick_victims(store, store.tiers[tier], size * PAGE, Search())
                )

        self.harness.call_sync(evict)

    @rule(tier=st.integers(0, 2))
    def lose_tier(self, tier: int) -> None:
        self._count("lose tier")
        if tier < len(self.harness.tiers):
            self.damaged = self.lost_a_tier = True
            shutil.rmtree(self.harness.tiers[tier].path, ignore_errors=True)

    @rule(number=st.integers(0, 9), how=st.sampled_from(["flip", "truncate", "zero", "unlink"]))
    def damage_a_block(self, number: int, how: str) -> None:
        with self.harness.index.read() as txn:
            extents = [extent for _, _, extent in self.harness.index.extents.iterate(txn)]
        extents = [one for one in extents if os.path.exists(self._container(one.tier, one.container))]
        if not extents:
            return
        self._count("damage")
        self.damaged = True
        extent = extents[number % len(extents)]
        path = self._container(extent.tier, extent.container)
        if how == "unlink":
            os.unlink(path)
        elif how == "truncate":
            os.truncate(path, extent.offset + extent.length // 2)
        else:
            with open(path, "r+b") as file:
                old = os.pread(file.fileno(), extent.length, extent.offset)
                new = bytes(len(old)) if how == "zero" else bytes(byte ^ 0x40 for byte in old)
                os.pwrite(file.fileno(), new, extent.offset)

    def _container(self, tier: int, container: int) -> str:
        return container_path(self.harness.tiers[tier].path, container)

    @rule(clean=st.booleans(), same_connection=st.booleans())
    def restart(self, clean: bool, same_connection: bool) -> None:
        self._count("restart" if clean else "kill")
        self._end(clean=clean)
        self._begin_again(same_connection=same_connection)

    @rule(
        clean=st.booleans(),
        same_connection=st.booleans(),
        url=st.sampled_from(["fake://store", "fake://other"]),
        sizes=st.dictionaries(st.sampled_from(PATHS), SIZES, max_size=3),
    )
    def mount_another_source(self, clean: bool, same_connection: bool, url: str, sizes: dict[str, int]) -> None:
        """One with a URL that it may have had before. Its versions are those of the other, too: both count from 1."""
        if url == self.source.url:
            return
        self._count("another source")
        self._end(clean=clean)
        self.source = make_source(self.way, url=url, page_size=2, needs_stat=self.source.needs_stat)
        self.harness.with_sources({"": self.source})
        self.current.clear()
        for pin in self.pins.values():
            pin.was_gone = True
        for path, size in sizes.items():
            self.write(path, size)
        self._begin_again(same_connection=same_connection)
        self._compare_everything("")

    def _end(self, *, clean: bool) -> None:
        self._let_go()
        if clean:
            self.harness.rest()
            self.harness.stop()
        else:
            self.harness.kill()

    def _begin_again(self, *, same_connection: bool) -> None:
        if not same_connection:
            self.pins.clear()
        self.harness.start(fresh_connection=not same_connection)
        self.reader = self.harness.reader()

    @rule()
    def hold_a_snapshot(self) -> None:
        """A reader that is slow: nothing that it can name may be punched out."""
        self._count("hold snapshot")
        self._let_go()
        self.snapshot_steps = 4
        self.snapshot = self.harness.index.begin_read()
        self.snapshot.__enter__()

    def _let_go(self) -> None:
        if self.snapshot is not None:
            self.snapshot.__exit__(None, None, None)
            self.snapshot = None

    # -- after each step

    @invariant()
    def everything_is_consistent(self) -> None:
        if not hasattr(self, "harness"):
            return
        self.snapshot_steps -= 1
        if self.snapshot is not None:
            if self.snapshot_steps > 0:
                return
            self._let_go()
        report = self.harness.check(damage=self.damaged)
        type(self).steps["checks with blocks"] += bool(report.extents)
        assert not self.harness.damages, self.harness.damages
        if not self.damaged:
            assert self.reader.checksum_failures == 0, "a block was damaged by nobody"

    # -- inside

    def _note_what_went(self) -> None:
        for pin in self.pins.values():
            pin.was_gone |= not self.is_file(pin.path) or self.current[pin.path] not in pin.candidates

    def _count(self, what: str) -> None:
        type(self).steps[what] += 1

    def _find(self, path: str) -> Attributes | None:
        try:
            return self._look(path)
        except CacheError as error:
            if self.is_exact:
                raise
            _must_be(error, ErrorKind.STALE)
            return None

    def _look(self, path: str) -> Attributes | None:
        found = self.reader.find(path.encode())
        if found is not None and stat.S_ISREG(found.mode):
            candidates = [data for data in self.history[path] if len(data) == found.size]
            pin = self.pins.setdefault(found.inode, Pin(path, candidates))
            assert pin.path == path, f"inode {found.inode:#x} was {pin.path}, now it is {path}"
            assert pin.candidates, f"{path} never had {found.size} bytes"
        return found

    def _read_pinned(self, inode: int, offset: int, size: int) -> None:
        pin = self.pins[inode]
        data = self.reader.read(inode, offset, size)
        agreeing = [version for version in pin.candidates if version[offset : offset + size] == data]
        assert agreeing, f"{pin.path}: {data!r} at {offset} is of no version that was seen before"
        pin.candidates = agreeing

    def _compare_everything(self, path: str) -> None:
        found = self._find(path)
        assert found is not None, f"{path!r} does not exist after refresh"
        inode = found.inode if path else ROOT_INODE
        assert set(self.reader.names(inode)) == self.children(path), f"listing of {path!r} after refresh"
        for name in sorted(self.children(path)):
            child = f"{path}/{name.decode()}" if path else name.decode()
            if self.is_directory(child):
                self._compare_everything(child)
            else:
                assert self.reader.read_file(child.encode()) == self.current[child], f"{child} after refresh"


def _must_be(error: CacheError, *kinds: ErrorKind) -> None:
    assert error.kind in kinds, f"{error.kind.name}: {error}"
