from __future__ import annotations

from pathlib import Path

from fusecache.fetch.buffer_pool import BufferPool

MIB = 1 << 20


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def test_buffers_are_used_again() -> None:
    pool = BufferPool()
    with pool.borrow(3 * MIB) as first:
        assert len(first) == 3 * MIB
        first[:3] = b"abc"
    assert pool.kept_bytes == 4 * MIB
    with pool.borrow(4 * MIB) as again:
        assert bytes(again[:3]) == b"abc"
        assert pool.kept_bytes == 0
    with pool.borrow(MIB) as other:
        assert bytes(other[:3]) == bytes(3)


def test_a_buffer_never_belongs_to_two() -> None:
    pool = BufferPool()
    with pool.borrow(10) as first, pool.borrow(20) as second:
        first[:] = b"1" * 10
        second[:] = b"2" * 20
        assert bytes(first) == b"1" * 10


def test_no_more_is_kept_than_allowed() -> None:
    pool = BufferPool(kept_bytes=5 * MIB)
    with pool.borrow(4 * MIB), pool.borrow(2 * MIB), pool.borrow(MIB):
        pass
    assert pool.kept_bytes <= 5 * MIB


def test_a_buffer_takes_what_was_written_to_it_and_gives_it_back() -> None:
    pool = BufferPool(kept_bytes=0)
    before = anonymous_bytes()
    with pool.borrow(33 * MIB) as target:
        target[: 8 * MIB] = bytes(8 * MIB)
        assert 8 * MIB <= anonymous_bytes() - before < 24 * MIB  # the zeros themselves are 8 MiB as well
    assert anonymous_bytes() - before < 4 * MIB


def test_idle_buffers_are_let_go() -> None:
    pool = BufferPool()
    with pool.borrow(2 * MIB):
        pass
    pool.release_idle()  # used since the last call
    assert pool.kept_bytes == 2 * MIB
    pool.release_idle()
    assert pool.kept_bytes == 0
    with pool.borrow(2 * MIB) as target:
        assert len(target) == 2 * MIB


def test_a_failing_borrower_gives_the_buffer_back() -> None:
    pool = BufferPool()
    try:
        with pool.borrow(MIB):
            raise RuntimeError
    except RuntimeError:
        pass
    assert pool.kept_bytes == MIB
