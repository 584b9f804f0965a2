"""The tree of names: listings become rows, and whatever the source does between two of them is told to the kernel."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import H_NEXT_INODE, PAGE
from fusecache.fetch import tree
from fusecache.fetch.roots import Roots
from fusecache.fetch.tree import Tree
from fusecache.fetch.tree_rows import Changes
from fusecache.index.environment import NoSpaceError
from fusecache.index.index import Index
from fusecache.index.inodes import ROOT, Inode, InodeFlag
from fusecache.source.protocol import Entry, EntryKind
from tests.support.index_check import check_index

SOURCE = 7


class TreeBench:
    def __init__(self, path: Path, *places: tuple[bytes, ...]) -> None:
        self.index = Index(path, writable=True)
        self.now = 1_000_000.0
        with self.index.write() as txn:
            for key, value in (("epoch", 3), ("block_size", 16), ("granule_size", 8), ("next_order", 1), ("next_inode", 2)):
                self.index.meta.put(txn, key, value)
        self.memory = mmap.mmap(-1, PAGE)
        self.open(*places)

    def open(self, *places: tuple[bytes, ...]) -> None:
        self.tree = Tree(self.index, self.memory, lambda: self.now)
        for _ in Roots(self.index, self.tree).arrange([(SOURCE + number, place) for number, place in enumerate(places or ((),))]):
            pass

    def list(self, *pages: list[Entry], parent: int = ROOT, hidden: int = 0) -> Changes:
        """A complete pass; return all that changed."""
        number = self.tree.begin_pass(parent)
        total = Changes()
        for part in [*(self.tree.apply_page(parent, page, number, hidden) for page in pages or ([],))]:
            _add(total, part)
        for part in self.tree.end_pass(parent, number, self.now):
            _add(total, part)
        return total

    def inode(self, name: bytes, parent: int = ROOT) -> int:
        row = self.tree.name(parent, name)
        assert row is not None, f"{name!r} is not there"
        return row.inode

    def row(self, name: bytes, parent: int = ROOT) -> Inode:
        found = self.tree.inode(self.inode(name, parent))
        assert found is not None
        return found

    def names(self, parent: int = ROOT) -> list[bytes]:
        with self.index.read() as txn:
            return [row.name for row in self.index.names.after(txn, parent, 0, 1000)]

    def check(self) -> None:
        check_index(self.index, [])

    def close(self) -> None:
        self.check()
        self.index.close()


def _add(total: Changes, part: Changes) -> None:
    total.directories |= part.directories
    total.entries += part.entries
    total.orphans += part.orphans


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[TreeBench]:
    made = TreeBench(tmp_path / "index")
    yield made
    made.close()


def file(name: str, version: str = "v1", size: int = 10, **fields: object) -> Entry:
    return Entry(name.encode(), EntryKind.FILE, size, version=version.encode())._replace(**fields)  # type: ignore[arg-type]


def directory(name: str) -> Entry:
    return Entry(name.encode(), EntryKind.DIRECTORY)


def test_a_first_listing_becomes_names_in_its_order(bench: TreeBench) -> None:
    bench.list([file("b"), file("a")], [directory("d")])
    assert bench.names() == [b"b", b"a", b"d"]
    assert (bench.tree.files, bench.tree.total_bytes) == (2, 20)
    row = bench.row(b"a")
    assert (row.kind, row.size, row.version, row.path, row.parent) == (EntryKind.FILE, 10, b"v1", b"a", ROOT)
    found = bench.tree.directory(ROOT)
    assert found is not None
    assert found.is_complete
    assert found.listed_at == bench.now


def test_names_that_come_twice_on_one_page_are_merged_in_their_order(bench: TreeBench) -> None:
    bench.list([file("a", "v1"), file("b"), file("a", "v2", 20), directory("b"), file("a", "v2", 20)])
    assert bench.names() == [b"a", b"b"]
    assert bench.row(b"a").version == b"v2"
    assert bench.row(b"b").kind == EntryKind.DIRECTORY
    assert (bench.tree.files, bench.tree.total_bytes) == (1, 20)


def test_a_second_listing_of_the_same_changes_nothing(bench: TreeBench) -> None:
    bench.list([file("a"), directory("d")])
    before = [bench.inode(b"a"), bench.inode(b"d")]
    assert not bench.list([file("a"), directory("d")])
    assert [bench.inode(b"a"), bench.inode(b"d")] == before


def test_a_replaced_object_is_a_new_inode_at_the_same_place(bench: TreeBench) -> None:
    bench.list([file("a"), file("b")])
    old = bench.inode(b"a")
    changes = bench.list([file("a", "v2", 99), file("b")])
    assert bench.inode(b"a") != old
    assert bench.names() == [b"a", b"b"]
    assert (changes.entries, changes.directories, changes.orphans) == ([(ROOT, b"a")], {ROOT}, [old])
    orphan = bench.tree.inode(old)
    assert orphan is not None
    assert orphan.flags & InodeFlag.ORPHAN
    assert orphan.flags & InodeFlag.GONE
    assert bench.tree.total_bytes == 109


def test_what_a_complete_listing_does_not_have_is_gone(bench: TreeBench) -> None:
    bench.list([file("a"), file("b")])
    changes = bench.list([file("b")])
    assert bench.names() == [b"b"]
    assert changes.entries == [(ROOT, b"a")]
    assert (bench.tree.files, bench.tree.total_bytes) == (1, 10)


def test_a_name_that_comes_back_has_a_new_place(bench: TreeBench) -> None:
    """Readdir offsets are never reused: a reader in the middle of the listing neither skips nor repeats."""
    bench.list([file("a"), file("b")])
    bench.list([file("b")])
    bench.list([file("a"), file("b")])
    assert bench.names() == [b"b", b"a"]


def test_renaming_is_going_and_coming(bench: TreeBench) -> None:
    bench.list([file("a")])
    changes = bench.list([file("z")])
    assert bench.names() == [b"z"]
    assert (ROOT, b"a") in changes.entries


@pytest.mark.parametrize("by_stat", [False, True])
def test_a_file_takes_a_directorys_place_and_back(bench: TreeBench, by_stat: bool) -> None:
    bench.list([directory("x")])
    inner = bench.inode(b"x")
    bench.list([file("f")], parent=inner)

    def become(entry: Entry) -> None:
        if by_stat:
            bench.tree.apply_stat(ROOT, b"x", entry)
        else:
            bench.list([entry])

    become(file("x"))
    assert bench.row(b"x").kind == EntryKind.FILE
    assert (bench.tree.files, bench.tree.hidden) == (1, 0)
    assert bench.tree.directory(inner) is None
    become(directory("x"))
    assert bench.row(b"x").kind == EntryKind.DIRECTORY
    assert bench.inode(b"x") != inner
    assert bench.tree.files == 0


def test_a_directory_shadows_a_file_of_its_name_in_one_listing(bench: TreeBench) -> None:
    bench.list([directory("x"), file("x")])
    assert bench.row(b"x").kind == EntryKind.DIRECTORY
    assert bench.tree.hidden == 1
    bench.list([file("x")], [directory("x")])
    assert bench.row(b"x").kind == EntryKind.DIRECTORY


def test_a_directory_goes_with_everything_below(bench: TreeBench) -> None:
    bench.list([directory("d")])
    outer = bench.inode(b"d")
    bench.list([directory("e"), file("f")], parent=outer)
    inner = bench.inode(b"e", outer)
    bench.list([file("g")], parent=inner, hidden=2)
    assert bench.tree.hidden == 2
    changes = bench.list([])
    assert set(changes.entries) == {(ROOT, b"d"), (outer, b"e"), (outer, b"f"), (inner, b"g")}
    assert (bench.tree.files, bench.tree.total_bytes, bench.tree.hidden) == (0, 0, 0)


def test_a_tree_deeper_than_the_stack_can_go(bench: TreeBench) -> None:
    inode = ROOT
    for _ in range(1200):
        bench.list([directory("d"), file("f")], parent=inode)
        inode = bench.inode(b"d", inode)
    bench.list([])
    assert bench.tree.files == 0


def test_a_name_that_goes_while_another_is_asked_for_alone_is_noticed(bench: TreeBench) -> None:
    """A pass that saw as many names as there are looks for no stale ones: what is asked for by name must not make up for one."""
    bench.list([file("a"), file("b"), file("c")])
    number = bench.tree.begin_pass(ROOT)
    bench.tree.apply_page(ROOT, [file("a"), file("b")], number)  # c is gone
    bench.tree.apply_stat(ROOT, b"b", None)  # and b a moment later
    list(bench.tree.end_pass(ROOT, number, bench.now))
    assert bench.names() == [b"a"]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "b"), ("a", "a")])
def test_names_that_come_twice_do_not_hide_a_stale_one(bench: TreeBench, order: tuple[str, str]) -> None:
    bench.list([file("a"), file("b")])
    bench.list([file(name) for name in order])
    assert bench.names() == sorted({name.encode() for name in order})


def test_much_that_is_gone_goes_in_steps(bench: TreeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went in one: nobody was answered until a removed directory was gone with all that was below."""
    monkeypatch.setattr(tree, "STEP_NAMES", 4)
    monkeypatch.setattr(tree, "STEP_REMOVALS", 3)
    bench.list([file(f"{number:02}") for number in range(20)] + [directory("d"), directory("e")])
    inode = bench.inode(b"d")
    bench.list([*(file(f"{number:02}") for number in range(10)), directory("sub"), directory("other")], parent=inode)
    bench.list([file(f"{number:02}") for number in range(8)], parent=bench.inode(b"sub", inode))
    number = bench.tree.begin_pass(ROOT)
    bench.tree.apply_page(ROOT, [file("07"), directory("e")], number)
    steps = list(bench.tree.end_pass(ROOT, number, bench.now))
    assert max(len(step.entries) for step in steps) <= 3
    assert sum(len(step.entries) for step in steps) == 19 + 12 + 8 + 1
    assert bench.names() == [b"07", b"e"]
    assert (bench.tree.files, bench.tree.total_bytes) == (1, bench.row(b"07").size)
    found = bench.tree.directory(ROOT)
    assert found is not None
    assert (found.entries, found.is_complete) == (2, True)


def test_what_comes_back_between_two_steps_stays(bench: TreeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "STEP_REMOVALS", 1)
    bench.list([file("a"), file("b"), file("c")])
    number = bench.tree.begin_pass(ROOT)
    steps = bench.tree.end_pass(ROOT, number, bench.now)
    next(steps)
    bench.tree.apply_stat(ROOT, b"c", file("c"))
    list(steps)
    assert bench.names() == [b"c"]


def test_a_directory_that_was_removed_while_it_was_listed_stays_removed(bench: TreeBench) -> None:
    bench.list([directory("d")])
    inode = bench.inode(b"d")
    number = bench.tree.begin_pass(inode)
    bench.list([])
    assert not bench.tree.apply_page(inode, [file("late")], number)
    assert not list(bench.tree.end_pass(inode, number, bench.now))
    assert not bench.tree.apply_stat(inode, b"late", file("late"))
    assert bench.tree.begin_pass(inode) == 0
    assert bench.tree.files == 0


def test_hidden_objects_are_counted_once_however_often_they_are_listed(bench: TreeBench) -> None:
    for _ in range(3):
        bench.list([file("a")], hidden=5)
    assert bench.tree.hidden == 5
    bench.list([file("a")], hidden=2)
    assert bench.tree.hidden == 2


def test_a_version_that_comes_back_after_it_seemed_gone_can_be_read_again(bench: TreeBench) -> None:
    bench.list([file("a")])
    inode = bench.inode(b"a")
    bench.tree.mark_gone(inode)
    bench.list([file("a")])
    assert bench.inode(b"a") == inode
    assert not bench.row(b"a").flags & InodeFlag.GONE


def test_hard_links_share_an_inode_and_its_cache(bench: TreeBench) -> None:
    bench.list([file("a", file_id=b"1"), file("b", file_id=b"1")])
    assert bench.inode(b"a") == bench.inode(b"b")
    assert (bench.tree.files, bench.tree.total_bytes) == (2, 20)
    bench.list([file("b", file_id=b"1")])
    assert bench.tree.inode(bench.inode(b"b")) is not None
    assert (bench.tree.files, bench.tree.total_bytes) == (1, 10)


def test_the_last_link_takes_the_inode_with_it(bench: TreeBench) -> None:
    bench.list([file("a", file_id=b"1"), file("b", file_id=b"1")])
    inode = bench.inode(b"a")
    bench.list([file("b", file_id=b"1")])
    assert bench.list([]).orphans == [inode]


def test_a_link_is_read_by_its_own_path_when_the_first_is_gone(bench: TreeBench) -> None:
    bench.list([file("a", file_id=b"1"), file("b", file_id=b"1")])
    old = bench.inode(b"b")
    bench.tree.mark_gone(old)  # it was read as "a", which is not there any more
    bench.list([file("b", file_id=b"1")])
    assert bench.row(b"b").path == b"b"
    assert not bench.row(b"b").flags & InodeFlag.GONE
    assert bench.inode(b"b") != old


def test_a_replaced_hard_link_is_a_new_inode_for_both(bench: TreeBench) -> None:
    bench.list([file("a", file_id=b"1"), file("b", file_id=b"1")])
    bench.list([file("a", "v2", file_id=b"1"), file("b", "v2", file_id=b"1")])
    assert bench.inode(b"a") == bench.inode(b"b")
    assert bench.row(b"a").version == b"v2"


def test_symbolic_links_are_as_long_as_their_target(bench: TreeBench) -> None:
    link = Entry(b"l", EntryKind.SYMLINK, 0, version=b"1", target=b"to/there")
    bench.list([link])
    assert (bench.row(b"l").size, bench.row(b"l").target) == (8, b"to/there")
    assert not bench.list([link])
    assert bench.list([link._replace(target=b"elsewhere")]).entries == [(ROOT, b"l")]
    assert bench.tree.files == 0


def test_a_changed_mode_is_no_new_version(bench: TreeBench) -> None:
    bench.list([file("a", mode=0o600)])
    inode = bench.inode(b"a")
    bench.list([file("a", mode=0o644)])
    assert (bench.inode(b"a"), bench.row(b"a").mode) == (inode, 0o644)


# -- inexact listings


def test_an_inexact_name_becomes_exact_in_place(bench: TreeBench) -> None:
    bench.list([file("a", "", 0, needs_stat=True)])
    inode = bench.inode(b"a")
    assert (bench.tree.files, bench.tree.total_bytes) == (1, 0)
    bench.tree.apply_stat(ROOT, b"a", file("a", size=12))
    assert bench.inode(b"a") == inode
    assert (bench.row(b"a").size, bench.row(b"a").flags) == (12, InodeFlag.CHECK_BY_NAME)
    assert bench.tree.total_bytes == 12
    name = bench.tree.name(ROOT, b"a")
    assert name is not None
    assert name.checked_at == int(bench.now)
    bench.list([file("a", "", 0, needs_stat=True)])  # tells nothing new
    assert (bench.inode(b"a"), bench.row(b"a").size) == (inode, 12)


def test_a_new_version_of_an_inexact_name_stays_one_that_is_checked_by_name(bench: TreeBench) -> None:
    bench.list([file("a", "", 0, needs_stat=True)])
    bench.tree.apply_stat(ROOT, b"a", file("a", "v1"))
    bench.tree.apply_stat(ROOT, b"a", file("a", "v2", 30))
    assert bench.row(b"a").flags & InodeFlag.CHECK_BY_NAME
    assert bench.tree.total_bytes == 30


def test_expired_names_count_as_never_checked_and_the_kernel_is_told(bench: TreeBench) -> None:
    bench.list([file("a", "", 0, needs_stat=True), file("b", "", 0, needs_stat=True)])
    bench.tree.apply_stat(ROOT, b"a", file("a"))
    assert [changes.entries for changes in bench.tree.expire_names(ROOT)] == [[(ROOT, b"a")]]
    name = bench.tree.name(ROOT, b"a")
    assert name is not None
    assert name.checked_at == 0
    assert not any(bench.tree.expire_names(ROOT))


def test_names_of_exact_listings_do_not_expire(bench: TreeBench) -> None:
    bench.list([file("a")])
    bench.tree.apply_stat(ROOT, b"a", file("a"))
    assert not any(bench.tree.expire_names(ROOT))


# -- several sources


def test_the_way_to_a_source_is_there_before_anything_was_listed(tmp_path: Path) -> None:
    bench = TreeBench(tmp_path / "index", (), (b"data", b"two"))
    assert bench.names() == [b"data"]
    assert bench.names(bench.inode(b"data")) == [b"two"]
    before = bench.inode(b"data")
    bench.open((), (b"data", b"two"))
    assert bench.inode(b"data") == before
    bench.close()


@pytest.mark.parametrize("what", ["nothing", "a file", "a directory", "a stat that finds nothing", "a stat that finds a file"])
def test_no_source_can_take_the_way_to_another_away(tmp_path: Path, what: str) -> None:
    bench = TreeBench(tmp_path / "index", (), (b"data",))
    place = bench.inode(b"data")
    bench.list([file("inside")], parent=place)
    if what == "nothing":
        bench.list([file("x")])
    elif what == "a file":
        bench.list([file("data")])
        assert bench.tree.hidden == 1
    elif what == "a directory":
        bench.list([directory("data")])
    else:
        bench.tree.apply_stat(ROOT, b"data", file("data") if "file" in what else None)
    assert bench.inode(b"data") == place
    assert bench.names(place) == [b"inside"]
    bench.close()


# -- numbers and failures


def test_no_number_is_told_to_readers_before_its_row_is_committed(bench: TreeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a death in between made the index older than what readers had seen, and it was dropped with all that was cached."""
    bench.list([file("a")])
    before = int.from_bytes(bench.memory[H_NEXT_INODE : H_NEXT_INODE + 8], "little")

    def full(*_: object) -> None:
        raise NoSpaceError("full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.index.meta, "put", full)
        with pytest.raises(CacheError) as caught:
            bench.list([file("a"), file("b"), directory("d")])
        assert caught.value.kind is ErrorKind.NO_SPACE
    assert int.from_bytes(bench.memory[H_NEXT_INODE : H_NEXT_INODE + 8], "little") == before
    assert (bench.tree.files, bench.tree.total_bytes) == (1, 10)
    bench.list([file("a"), file("b")])
    with bench.index.read() as txn:
        stored = bench.index.meta.get(txn, "next_inode")
    assert int.from_bytes(bench.memory[H_NEXT_INODE : H_NEXT_INODE + 8], "little") == stored


def test_numbers_are_of_the_epoch_and_go_on_after_a_restart(bench: TreeBench) -> None:
    bench.list([file("a")])
    first = bench.inode(b"a")
    bench.open()
    bench.list([file("a", "v2")])
    assert bench.inode(b"a") > first
    assert bench.inode(b"a") >> 48 == 3


ENTRIES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([EntryKind.FILE, EntryKind.DIRECTORY]), st.integers(1, 3), st.booleans()),
    max_size=4,
    unique_by=lambda entry: entry[0],
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 2), ENTRIES, st.booleans()), max_size=12))
def test_counters_and_tables_hold_after_any_listings(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, list[tuple[str, EntryKind, int, bool]], bool]]
) -> None:
    bench = TreeBench(tmp_path_factory.mktemp("index"))
    try:
        for depth, wanted, complete in steps:
            parent = ROOT
            for _ in range(depth):
                row = bench.tree.name(parent, b"a")
                if row is not None and row.kind == EntryKind.DIRECTORY:
                    parent = row.inode
            entries = [
                directory(name) if kind is EntryKind.DIRECTORY else file(name, f"v{version}", version, file_id=b"1" * linked)
                for name, kind, version, linked in wanted
            ]
            if complete:
                bench.list(entries, parent=parent, hidden=len(entries))
                assert sorted(bench.names(parent)) == sorted(entry.name for entry in entries)
            else:
                for entry in entries:
                    bench.tree.apply_stat(parent, entry.name, entry)
                bench.tree.apply_stat(parent, b"c", None)
            bench.check()
    finally:
        bench.close()
