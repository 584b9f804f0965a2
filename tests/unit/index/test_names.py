"""The invariant of names and dirseq: every name has one place in readdir order, and the other way round."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusecache.index.index import Index
from fusecache.index.names import NameRow

PARENTS = st.integers(1, 3)
NAMES = st.binary(min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), PARENTS, NAMES), max_size=40))
def test_names_and_dirseq_stay_a_bijection(index: Index, steps: list[tuple[bool, int, bytes]]) -> None:
    reference: dict[tuple[int, bytes], NameRow] = {}
    seq = 3
    for put, parent, name in steps:
        with index.write() as txn:
            if put:
                known = reference.get((parent, name))
                row = NameRow(seq * 7, 1, known.seq if known else seq, 1, 0)
                reference[parent, name] = row
                index.names.put(txn, parent, name, row)
                seq += 1
            else:
                assert index.names.delete(txn, parent, name) == reference.pop((parent, name), None)
    for parent in (1, 2, 3):
        mine = {name: row for (owner, name), row in reference.items() if owner == parent}
        with index.read() as txn:
            assert list(index.names.iterate(txn, parent)) == sorted(mine.items())
            in_order = index.names.after(txn, parent, 0, 1000)
        assert [(row.name, row.inode) for row in in_order] == [
            (name, row.inode) for name, row in sorted(mine.items(), key=lambda item: item[1].seq)
        ]
    with index.write() as txn:
        for parent, name in reference:
            index.names.delete(txn, parent, name)


def test_listing_goes_on_from_a_seq_and_stays_in_its_directory(index: Index) -> None:
    with index.write() as txn:
        for seq, name in enumerate([b"c", b"a", b"b"], 3):
            index.names.put(txn, 50, name, NameRow(seq, 1, seq, 1, 0))
        index.names.put(txn, 51, b"z", NameRow(9, 1, 3, 1, 0))
    with index.read() as txn:
        assert [row.name for row in index.names.after(txn, 50, 0, 2)] == [b"c", b"a"]
        assert [row.name for row in index.names.after(txn, 50, 4, 9)] == [b"b"]
        assert index.names.after(txn, 50, 5, 9) == []
        assert [row.name for row in index.names.before(txn, 50, 5, 9)] == [b"a", b"c"]
        assert [row.name for row in index.names.before(txn, 50, 99, 2)] == [b"b", b"a"]
        assert [row.name for row in index.names.before(txn, 51, 99, 9)] == [b"z"]
        assert index.names.before(txn, 50, 3, 9) == []
        assert [name for name, _ in index.names.iterate(txn, 50, b"b")] == [b"b", b"c"]
    with index.write() as txn:
        for name in (b"a", b"b", b"c"):
            index.names.delete(txn, 50, name)
        index.names.delete(txn, 51, b"z")
