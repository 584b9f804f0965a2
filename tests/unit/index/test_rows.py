"""Every table gives back what was put: whatever the fields hold, at the edges of their ranges too."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusecache.index.containers import Container
from fusecache.index.directories import Directory
from fusecache.index.extents import Extent
from fusecache.index.index import Index
from fusecache.index.inodes import Inode
from fusecache.index.names import NameRow

U8, U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
NAMES = st.binary(min_size=1, max_size=255)
ROWS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

INODES = st.builds(
    Inode,
    kind=U8,
    flags=U8,
    mode=U16,
    uid=U32,
    gid=U32,
    nlink=U32,
    size=U64,
    mtime_ns=I64,
    ctime_ns=I64,
    parent=U64,
    source=U64,
    identity=U64,
    path=st.binary(max_size=1024),
    version=st.binary(max_size=96),
    target=st.binary(max_size=4096),
)
DIRECTORIES = st.builds(
    Directory,
    flags=U8,
    listing_pass=U32,
    listed_at=st.floats(allow_nan=False),
    next_seq=U64,
    entries=U64,
    changes=U64,
    hidden=U32,
    token=st.binary(max_size=300),
)


@ROWS
@given(number=U64, row=INODES)
def test_inodes(index: Index, number: int, row: Inode) -> None:
    with index.write() as txn:
        index.inodes.put(txn, number, row)
    with index.read() as txn:
        assert index.inodes.get(txn, number) == row
        assert index.inodes.heads(txn, [number, number ^ 1]) == {number: row[:9]}
    with index.write() as txn:
        index.inodes.delete(txn, number)
    with index.read() as txn:
        assert index.inodes.get(txn, number) is None


@ROWS
@given(number=U64, row=DIRECTORIES)
def test_directories(index: Index, number: int, row: Directory) -> None:
    with index.write() as txn:
        index.dirs.put(txn, number, row)
    with index.read() as txn:
        assert index.dirs.get(txn, number) == row
        assert (number, row) in list(index.dirs.iterate(txn, number))[:1]
    with index.write() as txn:
        index.dirs.delete(txn, number)


@ROWS
@given(number=U64, row=st.builds(Container, U8, U8, U64, U64, U64, U32, I64))
def test_containers(index: Index, number: int, row: Container) -> None:
    with index.write() as txn:
        index.containers.put(txn, number, row)
    with index.read() as txn:
        assert index.containers.get(txn, number) == row
        assert list(index.containers.iterate(txn)) == [(number, row)]
    with index.write() as txn:
        index.containers.delete(txn, number)


@ROWS
@given(inode=U64, block=U32, row=st.builds(Extent, U8, U8, U64, U64, U32, U64, st.lists(U64, max_size=8).map(tuple)))
def test_extents(index: Index, inode: int, block: int, row: Extent) -> None:
    with index.write() as txn:
        index.extents.put(txn, inode, block, row)
    with index.read() as txn:
        assert index.extents.get(txn, inode, block) == row
        assert list(index.extents.of_inode(txn, inode)) == [(block, row)]
        assert list(index.extents.iterate(txn, (inode, block))) == [(inode, block, row)]
    with index.write() as txn:
        index.extents.delete(txn, inode, block)


@ROWS
@given(parent=U64, name=NAMES, row=st.builds(NameRow, U64, U8, U64, U32, U32))
def test_names(index: Index, parent: int, name: bytes, row: NameRow) -> None:
    with index.write() as txn:
        index.names.put(txn, parent, name, row)
    with index.read() as txn:
        assert index.names.get(txn, parent, name) == row
        assert list(index.names.iterate(txn, parent)) == [(name, row)]
        if row.seq:
            assert [tuple(found) for found in index.names.after(txn, parent, row.seq - 1, 9)] == [
                (row.seq, row.inode, row.kind, name)
            ]
    with index.write() as txn:
        assert index.names.delete(txn, parent, name) == row


@ROWS
@given(st.dictionaries(st.tuples(st.integers(0, 3), U64), st.tuples(U64, U32), max_size=20), st.integers(0, 3), U64)
def test_order_is_told_oldest_first_and_for_one_tier(
    index: Index, rows: dict[tuple[int, int], tuple[int, int]], tier: int, hand: int
) -> None:
    with index.write() as txn:
        for (row_tier, order), (inode, block) in rows.items():
            index.order.put(txn, row_tier, order, inode, block)
    hand = min(hand, (1 << 64) - 2)
    expected = [(order, *rows[found, order]) for found, order in sorted(rows) if found == tier and order > hand]
    with index.read() as txn:
        assert [tuple(row) for row in index.order.after(txn, tier, hand, 100)] == expected
        assert [tuple(row) for row in index.order.after(txn, tier, hand, 2)] == expected[:2]
    with index.write() as txn:
        for row_tier, order in rows:
            index.order.delete(txn, row_tier, order)


@ROWS
@given(st.text("abc:0123456789", min_size=1, max_size=20), U64)
def test_meta(index: Index, key: str, value: int) -> None:
    with index.write() as txn:
        index.meta.put(txn, key, value)
    with index.read() as txn:
        assert index.meta.get(txn, key) == value
    with index.write() as txn:
        index.meta.delete(txn, key)
    with index.read() as txn:
        assert index.meta.get(txn, key, 7) == 7


def test_an_orphan_is_listed_until_it_is_adopted_or_deleted(index: Index) -> None:
    row = Inode(1, 0, 0, 0, 0, 1, 5, 0, 0, 1, 2, 3, b"path", b"v", b"")
    with index.write() as txn:
        for number in (10, 11, 12):
            index.inodes.put(txn, number, row)
            index.inodes.mark_orphan(txn, number)
        index.inodes.adopt(txn, 11)
        index.inodes.delete(txn, 12)
    with index.read() as txn:
        assert index.inodes.orphans(txn) == [10]
        assert index.inodes.get(txn, 11) == row
        assert index.inodes.count(txn) == 2
    with index.write() as txn:
        index.inodes.delete(txn, 10)
        index.inodes.delete(txn, 11)
