"""Nodes that share a cache: what the store is asked for, and that nothing a peer does or is spoils a read."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch.warm import Warm
from fusecache.peer.connection import PeerConnection
from fusecache.peer.ring import GROUP_BLOCKS
from fusecache.peer.wire import RangeRequest
from tests.support.block_damage import damage_block, extent_of
from tests.support.fake_source import FakeSource, StreamedSource, content
from tests.support.fetch_harness import BLOCK, FetchHarness
from tests.support.log_check import LogCheck
from tests.support.peer_nodes import PeerNodes, sharing
from tests.support.threads import at_once

pytestmark = pytest.mark.slow

DATA = content("file", 9 * GROUP_BLOCKS * BLOCK + 5)
SMALL = {f"small{number}": content(str(number), 3 * BLOCK - number) for number in range(12)}


def put_all(source: FakeSource) -> None:
    source.put("place/file", DATA, version=b"one")
    for name, data in SMALL.items():
        source.put(f"place/{name}", data, version=b"one")


def read(node: FetchHarness, path: str = "place/file", size: int = 0) -> bytes:
    """Read with requests of some blocks, as a kernel does."""
    reader = node.reader()
    inode = reader.inode(path.encode())
    size = size or len(DATA)
    return b"".join(reader.read(inode, offset, 3 * BLOCK) for offset in range(0, size, 3 * BLOCK))


def counters(nodes: PeerNodes, counter: Counter) -> int:
    return sum(node.counter(counter) for node in nodes.nodes.values())


@pytest.mark.parametrize(
    "source", [FakeSource, StreamedSource, lambda: FakeSource(ranges=False)], ids=["ranges", "streams", "whole"]
)
def test_a_cold_object_is_fetched_once_for_all_nodes(tmp_path: Path, source: Any) -> None:
    with sharing(tmp_path, "a", "b", "c", put=put_all, make_source=source, prefetch=True) as nodes:

        def check(name: str) -> None:
            assert read(nodes.nodes[name]) == DATA

        at_once(*(lambda name=name: check(name) for name in ("a", "b", "c")))
        assert nodes.bytes_read_of(b"place/file") == len(DATA)
        assert counters(nodes, Counter.PEER_ERRORS) == 0
        assert counters(nodes, Counter.PEER_BYTES) >= 2 * len(DATA)
        for node in nodes.nodes.values():
            node.rest()
        assert counters(nodes, Counter.REMOTE_BYTES) == nodes.bytes_read <= len(DATA) + sum(map(len, SMALL.values()))


def test_small_files_are_shared_as_well(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", "c", put=put_all) as nodes:
        for node in nodes.nodes.values():
            reader = node.reader()
            assert {name: reader.read_file(f"place/{name}".encode()) for name in SMALL} == SMALL
        assert nodes.bytes_read == sum(map(len, SMALL.values()))


def test_what_a_peer_had_is_told_from_what_it_fetched(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        assert read(nodes.nodes["a"]) == DATA  # b fetched its part for a
        for node in nodes.nodes.values():
            node.rest()  # a reader is answered before its block is in the index, and b is to find all of them there
        assert nodes.nodes["a"].counter(Counter.PEER_HIT_BYTES) == 0
        from_b = nodes.nodes["a"].counter(Counter.PEER_BYTES)
        assert 0 < from_b < len(DATA)
        assert nodes.nodes["b"].counter(Counter.PEER_SERVED_BYTES) == from_b
        assert read(nodes.nodes["b"]) == DATA
        b = nodes.nodes["b"]
        b.rest()  # what a peer had is known when its answer has ended, and the reader had its bytes before
        assert b.counter(Counter.PEER_HIT_BYTES) == b.counter(Counter.PEER_BYTES) == len(DATA) - from_b


def test_a_node_without_tiers_reads_through_the_owners(tmp_path: Path) -> None:
    quotas = {"consumer": ()}
    with sharing(tmp_path, "a", "b", "consumer", put=put_all, quotas=quotas) as nodes:
        consumer = nodes.nodes["consumer"]
        reader = consumer.reader()
        inode = reader.inode(b"place/file")
        for offset, size in ((0, BLOCK), (5, 3), (BLOCK - 1, 2), (7 * BLOCK + 3, 2 * BLOCK), (len(DATA) - 7, 7)):
            assert reader.read(inode, offset, size) == DATA[offset : offset + size]
        assert nodes.sources["consumer"].bytes_read == 0
        assert consumer.counter(Counter.PEER_BYTES) == consumer.counter(Counter.BOUNCED_BYTES) > 0


def test_a_consumer_keeps_what_it_gets_and_owns_nothing(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", "consumer", put=put_all, consumers=["consumer"]) as nodes:
        consumer = nodes.nodes["consumer"]
        assert read(consumer) == DATA
        assert nodes.sources["consumer"].bytes_read == 0
        before = consumer.counter(Counter.PEER_BYTES)
        assert before == len(DATA)
        assert read(consumer) == DATA
        assert consumer.counter(Counter.PEER_BYTES) == before
        assert consumer.cache.peers is not None
        assert consumer.cache.peers.server is None
        assert nodes.bytes_read == len(DATA)


def test_a_dead_owner_is_bypassed(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", "c", put=put_all) as nodes:
        nodes.nodes["b"].kill()
        started = time.monotonic()
        assert read(nodes.nodes["a"]) == DATA
        assert read(nodes.nodes["c"]) == DATA
        assert time.monotonic() - started < 8  # not as long as a node may take to be known
        nodes.wait_known("a", "a", "c")
        assert nodes.bytes_read < 1.6 * len(DATA)


def test_an_owner_that_comes_back_has_its_share_again(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        read(nodes.nodes["a"])
        nodes.nodes["b"].stop()
        nodes.wait_known("a", "a")
        nodes.nodes["b"].start()
        nodes.wait_known("b", "a", "b")
        nodes.wait_known("a", "a", "b")
        assert read(nodes.nodes["b"]) == DATA
        assert nodes.bytes_read == len(DATA)


def test_an_owner_whose_store_hangs_is_bypassed_in_time(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", put=put_all, deadline_seconds=10.0) as nodes:
        nodes.nodes["b"].reader().inode(b"place/file")
        nodes.sources["b"].gate.clear()
        started = time.monotonic()
        assert read(nodes.nodes["a"]) == DATA
        assert time.monotonic() - started < 15
        nodes.sources["b"].gate.set()


def test_an_owner_whose_store_fails_is_bypassed(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        nodes.nodes["b"].reader().inode(b"place/file")
        nodes.sources["b"].fail(1000, ErrorKind.DENIED)
        assert read(nodes.nodes["a"]) == DATA
        assert nodes.nodes["a"].counter(Counter.PEER_ERRORS) > 0
        nodes.sources["b"].mend()


def test_versions_are_never_mixed(tmp_path: Path) -> None:
    new = content("new", len(DATA))
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        assert read(nodes.nodes["b"]) == DATA
        nodes.sources["a"].put("place/file", new, version=b"two")  # b cannot know of it: its names live for 100 s
        nodes.nodes["a"].now += 1000
        nodes.nodes["a"].reader().find(b"place/file")
        before = nodes.nodes["a"].counter(Counter.PEER_BYTES)
        assert read(nodes.nodes["a"]) == new
        assert nodes.nodes["a"].counter(Counter.PEER_BYTES) == before
        assert read(nodes.nodes["b"]) == DATA, "what it has is complete"
        nodes.sources["b"].put("place/file", new, version=b"two")
        before = nodes.bytes_read
        time.sleep(1.1)  # a peer that has another version does not ask its store for every request
        nodes.nodes["b"].now += 1000
        assert read(nodes.nodes["b"]) == new
        assert nodes.bytes_read - before < len(new)


def test_a_replaced_object_under_readers(tmp_path: Path, expect_log: LogCheck) -> None:
    """One node after the other hears of it, in the middle of reading."""
    expect_log("STALE", level=logging.ERROR, at_least=0)
    versions = [content(f"version {number}", len(DATA)) for number in range(6)]
    with sharing(tmp_path, "a", "b", "c", put=put_all, ttl_seconds=0.0) as nodes:
        over = threading.Event()
        errors: set[ErrorKind] = set()

        def check(name: str) -> None:
            reader = nodes.nodes[name].reader()
            while not over.is_set():
                found = reader.find(b"place/file")
                assert found is not None
                pieces = []
                try:
                    for offset in range(0, len(DATA), 5 * BLOCK):
                        pieces.append(reader.read(found.inode, offset, 5 * BLOCK))
                except CacheError as error:
                    errors.add(error.kind)
                    continue
                assert b"".join(pieces) in [DATA, *versions]

        def replace() -> None:
            try:
                for number, data in enumerate(versions):
                    for source in nodes.sources.values():
                        time.sleep(0.1)
                        source.put("place/file", data, version=b"version %d" % number)
            finally:
                over.set()

        at_once(replace, *(lambda name=name: check(name) for name in ("a", "b", "c")))
        assert errors <= {ErrorKind.STALE}
        assert counters(nodes, Counter.PEER_BYTES) > 0


def test_a_damaged_block_is_not_passed_on(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        b = nodes.nodes["b"]
        assert read(b) == DATA
        inode = b.reader().inode(b"place/file")
        for block in range(0, len(DATA) // BLOCK, 3):
            damage_block(b, inode, block)
        assert read(nodes.nodes["a"]) == DATA
        assert nodes.nodes["a"].counter(Counter.PEER_ERRORS) == 0
        assert nodes.nodes["a"].counter(Counter.PEER_BYTES) > 0
        assert nodes.sources["b"].most_reads_of_a_byte == 2, "it was fetched again"
        mended = [block for block in range(0, len(DATA) // BLOCK, 3) if extent_of(b, inode, block)]
        assert mended
        b.kill()  # what nobody asked for is damaged still


def test_a_buffer_that_a_thread_still_writes_to_is_nobody_elses(tmp_path: Path) -> None:
    """The asker goes while the owner reads a block for it."""
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        b = nodes.nodes["b"]
        assert read(b) == DATA
        peers = b.cache.peers
        assert peers is not None
        assert peers.provider is not None
        assert peers.server is not None
        containers, buffers = peers.provider._containers, b.cache.flights.buffers
        reading, go_on, pread = threading.Event(), threading.Event(), containers.pread_into

        def slow(*arguments: Any) -> int:
            reading.set()
            go_on.wait(10)
            return pread(*arguments)

        containers.pread_into = slow  # type: ignore[method-assign]
        row = b.call_sync(lambda: b.cache.tree.inode(b.cache.tree.resolve(b"place/file")[0]))  # type: ignore[index]
        assert row is not None
        before = peers.server.connections
        token = (tmp_path / "a" / "token").read_bytes()
        asker = PeerConnection(("127.0.0.1", nodes.ports["b"]), token)
        asker.send(RangeRequest(0, row.source, row.identity, row.size, 0, 5, row.path, row.version).pack())
        assert reading.wait(5)
        kept = buffers.kept_bytes
        asker.close()
        deadline = time.monotonic() + 10
        while peers.server.connections > before:
            assert time.monotonic() < deadline, "it goes on for nobody"
            time.sleep(0.05)
        assert buffers.kept_bytes <= kept
        go_on.set()
        containers.pread_into = pread  # type: ignore[method-assign]
        assert read(nodes.nodes["a"]) == DATA


def test_a_wrong_token_opens_nothing(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", put=put_all, tokens={"b": "another"}) as nodes:
        time.sleep(1.0)
        assert (nodes.known("a"), nodes.known("b")) == (("a",), ("b",))
        assert read(nodes.nodes["a"]) == read(nodes.nodes["b"]) == DATA
        assert nodes.bytes_read == 2 * len(DATA)
        peers = nodes.nodes["a"].cache.peers
        assert peers is not None
        assert peers.server is not None
        assert peers.server.refused > 0


def test_a_token_that_is_replaced(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        for name in ("a", "b"):
            (tmp_path / name / "token").write_text("another one")
            time.sleep(0.3)
        nodes.wait_known("a", "a", "b")
        assert read(nodes.nodes["a"]) == DATA


def test_two_nodes_that_take_each_other_for_the_owner_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Their views differ: a knows of c, b does not; and both have the store."""
    with sharing(tmp_path, "a", "b", put=put_all) as nodes:
        everything = {"a": "b", "b": "a"}
        for name, other in everything.items():
            membership = nodes.nodes[name].cache.peers._membership  # type: ignore[union-attr]
            link = membership._links[other]
            membership.link = lambda identity, block, link=link: link  # type: ignore[method-assign]
        started = time.monotonic()

        def check(name: str) -> None:
            assert read(nodes.nodes[name]) == DATA

        at_once(lambda: check("a"), lambda: check("b"))
        assert time.monotonic() - started < 5


def test_owned_parts_add_up_to_the_data_once(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", "c", put=put_all) as nodes:
        whole = len(DATA) + sum(map(len, SMALL.values()))
        found = []
        for node in nodes.nodes.values():
            warm = Warm(node.cache, WarmRequest(owned=True))
            found.append(node.call(warm.run))
        assert [progress.owners for progress in found] == [["a", "b", "c"]] * 3
        assert sum(progress.bytes for progress in found) == whole
        assert sum(progress.files for progress in found) == 1 + len(SMALL)
        assert sum(node.call_sync(lambda node=node: node.cache.store.cached_bytes) for node in nodes.nodes.values()) == whole
        assert nodes.bytes_read == whole
        assert counters(nodes, Counter.PEER_BYTES) == 0
        again = nodes.nodes["a"].call(Warm(nodes.nodes["a"].cache, WarmRequest(owned=True)).run)
        assert (again.bytes, again.files, again.failures) == (found[0].bytes, found[0].files, 0)
        everything = nodes.nodes["a"].call(Warm(nodes.nodes["a"].cache, WarmRequest()).run)
        assert (everything.bytes, everything.owners, nodes.bytes_read) == (whole, [], whole)


def test_what_cannot_be_loaded_counts_once_in_the_totals_of_all(tmp_path: Path) -> None:
    """A file that fails on each node that has a part of it, and a line of a list that names nothing."""

    def put(source: FakeSource) -> None:
        put_all(source)
        source.put("place/list", b"file\nsmall1\nnowhere\n", version=b"one")
        for method in ("read", "stream"):
            source.fail(1000, ErrorKind.DENIED, method, matches=lambda path: path == b"place/file")

    with sharing(tmp_path, "a", "b", "c", put=put) as nodes:
        request = WarmRequest(owned=True, paths=("place",), file_list="place/list", list_root="place")
        found = [node.call(Warm(node.cache, request).run) for node in nodes.nodes.values()]
        assert sum(progress.files for progress in found) == 1
        assert sum(progress.failures for progress in found) > 3, "each node says what it could not load"
        assert {path for progress in found for path, _ in progress.failed} == {"place/file", "place/nowhere"}
        assert sum(progress.files_total for progress in found) == 3


def test_many_kills_under_readers(tmp_path: Path) -> None:
    with sharing(tmp_path, "a", "b", "c", put=put_all, quotas=dict.fromkeys("abc", (64 << 12,))) as nodes:
        over = threading.Event()
        reads = 0

        def check() -> None:
            nonlocal reads
            reader = nodes.nodes["a"].reader()
            inode = reader.inode(b"place/file")
            random = int.from_bytes(os.urandom(4), "big")
            while not over.is_set():
                random = (random * 1103515245 + 12345) % (1 << 31)
                offset = random % len(DATA)
                assert reader.read(inode, offset, 40) == DATA[offset : offset + 40]
                reads += 1

        def kill() -> None:
            try:
                for _ in range(4):
                    for name in ("b", "c"):
                        time.sleep(0.25)
                        nodes.nodes[name].kill()
                        time.sleep(0.1)
                        nodes.nodes[name].start()
            finally:
                over.set()

        at_once(check, check, kill)
        assert reads > 100
        assert nodes.nodes["a"].counter(Counter.PEER_BYTES) > 0
