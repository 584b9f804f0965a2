from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest

from fusecache.contract.shared_memory import ENTRY_BYTES, Layout
from fusecache.fuse.native.protocol import IN_HEADER
from fusecache.fuse.native.request_slots import LARGEST_PARKED_REQUEST, NO_ENTRY, RequestSlots

LAYOUT = Layout(serve_count=2, readers=2, landing_bytes=8192, table_entries=4)


def request(unique: int, body: bytes = b"") -> bytes:
    return IN_HEADER.pack(IN_HEADER.size + len(body), 1, unique, 7, 0, 0, 0, 0, 0) + body


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, LAYOUT.total_bytes) as memory:
        yield memory


@pytest.fixture
def slots(memory: mmap.mmap) -> Iterator[RequestSlots]:
    slots = RequestSlots(memory, LAYOUT, 1)
    slots.prefault()
    yield slots
    slots.close()


def left_behind(memory: mmap.mmap, serve_index: int = 1) -> list[tuple[bytes, int, int]]:
    """What a successor finds."""
    successor = RequestSlots(memory, LAYOUT, serve_index)
    found = [(left.request, left.attempts, left.entry) for left in successor.unanswered()]
    successor.close()
    return found


def test_a_successor_finds_parked_requests(memory: mmap.mmap, slots: RequestSlots) -> None:
    entries = [slots.park(request(unique, b"name\0"), unique, 0) for unique in (10, 12)]
    assert left_behind(memory) == [(request(10, b"name\0"), 0, entries[0]), (request(12, b"name\0"), 0, entries[1])]
    assert left_behind(memory, serve_index=0) == []
    slots.clear(entries[0])
    assert [entry for _, _, entry in left_behind(memory)] == [entries[1]]


def test_a_successor_finds_landed_requests(memory: mmap.mmap, slots: RequestSlots) -> None:
    landed = request(1 << 63 | 14)
    slots.landing[1].buffer[: len(landed)] = landed
    assert slots.landing[1].unique == 1 << 63 | 14
    assert slots.holds(1 << 63 | 14)
    assert left_behind(memory) == [(landed, 1, NO_ENTRY)]
    slots.landing[1].clear()
    assert left_behind(memory) == []
    assert not slots.holds(1 << 63 | 14)


def test_only_work_counts_as_an_attempt(memory: mmap.mmap, slots: RequestSlots) -> None:
    entry = slots.park(request(10), 10, 1)
    assert left_behind(memory)[0][1] == 1
    slots.set_running(entry, True)
    assert left_behind(memory)[0][1] == 2
    slots.set_attempts(entry, 2)
    slots.set_running(entry, False)
    assert left_behind(memory)[0][1] == 2


def test_a_reused_entry_starts_anew(memory: mmap.mmap, slots: RequestSlots) -> None:
    entry = slots.park(request(10, bytes(300)), 10, 2)
    slots.set_running(entry, True)
    slots.clear(entry)
    assert slots.park(request(12), 12, 0) == entry
    assert left_behind(memory) == [(request(12), 0, entry)]


def test_a_full_table_and_a_long_request_get_no_entry(memory: mmap.mmap, slots: RequestSlots) -> None:
    assert slots.park(request(10, bytes(ENTRY_BYTES)), 10, 0) == NO_ENTRY
    entries = [slots.park(bytes(LARGEST_PARKED_REQUEST), unique, 0) for unique in range(4)]
    assert sorted(entries) == [0, 1, 2, 3]
    assert slots.park(request(20), 20, 0) == NO_ENTRY
    slots.clear(NO_ENTRY)
    slots.clear(entries[2])
    assert slots.park(request(20), 20, 0) == entries[2]
    successor = RequestSlots(memory, LAYOUT, 1)
    assert successor.park(request(22), 22, 0) == NO_ENTRY  # a successor respects what is parked
    successor.close()


def test_siblings_see_what_is_parked(slots: RequestSlots, memory: mmap.mmap) -> None:
    slots.park(request(1 << 40 | 10), 1 << 40 | 10, 0)
    sibling = RequestSlots(memory, LAYOUT, 1)
    assert sibling.is_parked(1 << 40 | 10)
    assert not sibling.is_parked(10)
    sibling.close()


def test_prefaulting_changes_nothing(memory: mmap.mmap, slots: RequestSlots) -> None:
    landed = request(14)
    slots.landing[0].buffer[: len(landed)] = landed
    slots.prefault()
    assert left_behind(memory) == [(landed, 1, NO_ENTRY)]


def test_what_was_applied_is_not_done_again(memory: mmap.mmap, slots: RequestSlots) -> None:
    entry = slots.park(request(10), 10, 0)
    slots.landing[1].buffer[: len(request(14))] = request(14)
    for unique in (10, 14):
        assert not slots.is_applied(unique)
        slots.mark_applied(unique)
    successor = RequestSlots(memory, LAYOUT, 1)
    assert [left.attempts for left in successor.unanswered()] == [0, 1]
    assert successor.is_applied(10)
    assert successor.is_applied(14)
    successor.close()
    slots.clear(entry)
    slots.park(request(10), 12, 0)
    slots.landing[1].buffer[: len(request(16))] = request(16)
    successor = RequestSlots(memory, LAYOUT, 1)
    assert len(list(successor.unanswered())) == 2
    assert not any(successor.is_applied(unique) for unique in (10, 12, 14, 16))
    successor.close()


def test_a_decided_errno_is_found_again(memory: mmap.mmap, slots: RequestSlots) -> None:
    entry = slots.park(request(10), 10, 0)
    slots.set_running(entry, True)
    slots.mark_failing(entry, 17)
    successor = RequestSlots(memory, LAYOUT, 1)
    assert [(left.errno, left.attempts) for left in successor.unanswered()] == [(17, 1)]
    successor.close()


def test_a_long_request_waits_where_it_landed(memory: mmap.mmap, slots: RequestSlots) -> None:
    slots.open()
    slot, other = slots.take_slot(), slots.take_slot()
    long = request(10, bytes(5000))
    slot.buffer[: len(long)] = long
    entry = slots.stay(slot)
    assert left_behind(memory) == [(long, 0, NO_ENTRY)]  # waiting is no attempt
    slots.set_running(entry, True)
    assert left_behind(memory) == [(long, 1, NO_ENTRY)]
    slots.clear(entry)
    assert left_behind(memory) == []
    assert slots.take_slot() is slot is not other
