"""Files that are being written, against a reference, with deaths between any two steps."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.tiers import stage as module
from fusecache.tiers.stage import GRAIN, REGION, Stage, remove

SIZES = st.one_of(
    st.integers(0, 3 * GRAIN), st.sampled_from([GRAIN - 1, GRAIN, GRAIN + 1, 40 * GRAIN, 40 * GRAIN + 7]), st.integers(0, 200_000)
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), SIZES, SIZES),
        st.tuples(st.just("truncate"), SIZES, st.just(0)),
        st.tuples(st.just("allocate"), SIZES, st.integers(1, 50_000)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


class _Death(BaseException):
    """The process dies here."""


class Written:
    """A stage over a base, written as serve does it."""

    def __init__(self, directory: Path, base: bytes, size: int | None = None) -> None:
        self.directory, self.base = directory, base
        self.stage = Stage.create(directory, "one", len(base), size)

    def read(self, offset: int, size: int) -> bytes:
        pieces = []
        at = offset
        for run in self.stage.runs(offset, size):
            assert run.start == at < run.end
            if run.is_new:
                piece = bytearray(run.end - run.start)
                assert self.stage.pread_into(memoryview(piece), run.start) == len(piece)
                pieces.append(bytes(piece))
            else:
                assert run.end <= len(self.base)
                pieces.append(self.base[run.start : run.end])
            at = run.end
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        for start, end in self.stage.wanted(offset, len(data)):
            self.stage.fill(start, self.base[start:end])
        self.stage.write(offset, data)

    def reopen(self) -> None:
        self.stage.close()
        self.stage = Stage.open(self.directory, "one")


def apply(reference: bytearray, step: str, offset: int, data: bytes, size: int) -> None:
    if step == "write" and data:
        if offset > len(reference):
            reference.extend(bytes(offset - len(reference)))
        reference[offset : offset + len(data)] = data
    elif step == "truncate":
        reference[offset:] = bytes(max(0, offset - len(reference)))
    elif step == "allocate":
        reference.extend(bytes(max(0, offset + size - len(reference))))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


@settings(deadline=None)
@given(base=SIZES, opened=st.sampled_from([None, 0]), steps=STEPS, seed=st.integers(0, 1 << 30))
def test_a_stage_is_a_file(base: int, opened: int | None, steps: list[tuple[str, int, int]], seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(base)
    reference = bytearray(content if opened is None else b"")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        written = Written(Path(name), content, opened)
        try:
            for step, offset, size in steps:
                data = chance.randbytes(size) if step == "write" else b""
                do(written, step, offset, data, size)
                apply(reference, step, offset, data, size)
                assert written.stage.size == len(reference)
                start = chance.randrange(len(reference) + 1)
                assert written.read(start, 30_000) == reference[start : start + 30_000]
            assert written.read(0, len(reference) + 1) == reference
        finally:
            written.stage.close()


def do(written: Written, step: str, offset: int, data: bytes, size: int) -> None:
    if step == "write":
        written.write(offset, data)
    elif step == "truncate":
        written.stage.truncate(offset)
    elif step == "allocate":
        written.stage.allocate(offset, size)
    else:
        written.reopen()


def dying(monkeypatch: pytest.MonkeyPatch, after: int) -> Callable[[], None]:
    """Let the process die at the call number `after` of those that change a file; return how it comes back to life."""
    left = after

    def guarded(call: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object) -> object:
            nonlocal left
            if left == 0:
                raise _Death
            left -= 1
            return call(*args)

        return step

    for name in ("pwrite", "ftruncate", "posix_fallocate"):
        monkeypatch.setattr(module.os, name, guarded(getattr(os, name)))
    return monkeypatch.undo


@pytest.mark.parametrize("step", ["write", "truncate", "allocate"])
@pytest.mark.parametrize("seed", range(8))
def test_a_death_between_any_two_steps(directory: Path, monkeypatch: pytest.MonkeyPatch, step: str, seed: int) -> None:
    """Before the step is repeated, readers see what was there or what is to be, in each grain; afterwards what is to be."""
    chance = random.Random(seed)
    for after in range(40):
        base = chance.randbytes(chance.randrange(1, 60_000))
        written = Written(directory, base)
        before = bytearray(base)
        for _ in range(3):
            offset, data = chance.randrange(70_000), chance.randbytes(chance.randrange(1, 20_000))
            written.write(offset, data)
            apply(before, "write", offset, data, 0)
        offset, size = chance.randrange(80_000), chance.randrange(1, 20_000)
        data = chance.randbytes(size) if step == "write" else b""
        expected = bytearray(before)
        apply(expected, step, offset, data, size)
        revive = dying(monkeypatch, after)
        died = False
        try:
            do(written, step, offset, data, size)
        except _Death:
            died = True
        revive()
        written.reopen()
        if died:
            seen = written.read(0, 1 << 20)
            for at in range(0, min(len(seen), len(before), len(expected)), 997):
                assert seen[at] in (before[at], expected[at])
            do(written, step, offset, data, size)
        assert written.read(0, 1 << 20) == expected
        assert all(number % 2 == 0 for number in written.stage.changes(0, 2)), (died, written.stage.changes(0, 2))
        written.stage.close()
        if not died:
            return
    pytest.fail("the step has too many steps")


def test_changes_say_which_regions_were_written(directory: Path) -> None:
    written = Written(directory, bytes(5 * REGION))
    stage = written.stage
    assert stage.changes(0, 6) == (0,) * 6
    written.write(REGION - 1, b"ab")
    written.write(4 * REGION + 5, b"x")
    first = stage.changes(0, 6)
    assert [bool(number) for number in first] == [True, True, False, False, True, False]
    written.write(0, b"again")
    assert stage.change(0) != first[0]
    assert stage.change(1) == first[1]
    stage.truncate(7 * REGION)
    assert stage.change(2) == stage.change(6) == 0
    assert stage.change(5) != 0
    stage.truncate(2 * REGION + 1)
    assert all(stage.changes(2, 5))
    stage.close()


def test_a_write_that_was_interrupted_is_known(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(directory, b"")
    revive = dying(monkeypatch, 1)
    with pytest.raises(_Death):
        written.write(10, b"lost")
    revive()
    assert written.stage.change(0) % 2 == 1
    written.write(10, b"again")
    assert written.stage.change(0) % 2 == 0
    written.stage.close()


def test_only_the_edges_of_a_write_are_wanted(directory: Path) -> None:
    written = Written(directory, bytes(10 * GRAIN + 100))
    stage = written.stage
    assert stage.wanted(0, GRAIN) == []
    assert stage.wanted(10, GRAIN) == [(0, GRAIN), (GRAIN, 2 * GRAIN)]
    assert stage.wanted(10, 5 * GRAIN - 10) == [(0, GRAIN)]
    assert stage.wanted(10 * GRAIN, 100) == []
    assert stage.wanted(10 * GRAIN + 50, 10_000) == [(10 * GRAIN, 10 * GRAIN + 100)]
    assert stage.wanted(11 * GRAIN, 10_000) == []
    written.write(10, b"x")
    assert stage.wanted(500, 5) == []
    stage.close()


def test_what_is_no_stage(directory: Path) -> None:
    def fails(kind: ErrorKind) -> None:
        with pytest.raises(CacheError) as caught:
            Stage.open(directory, "one")
        assert caught.value.kind is kind

    fails(ErrorKind.NOT_FOUND)
    (directory / "one.data").write_bytes(b"data")
    fails(ErrorKind.CORRUPT)
    (directory / "one.map").write_bytes(b"nonsense" * 10)
    fails(ErrorKind.CORRUPT)
    remove(directory, "one")
    remove(directory, "one")
    assert list(directory.iterdir()) == []


def test_a_stage_that_is_removed_while_it_is_opened(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once that was taken for damage, and a truncation that came with the end of the file was EIO."""
    Stage.create(directory, "one", 0).close()
    open_file = os.open

    def remove_between(path: Path, flags: int, mode: int = 0o777) -> int:
        if path.suffix == ".map":
            remove(directory, "one")
        return open_file(path, flags, mode)

    monkeypatch.setattr(module.os, "open", remove_between)
    with pytest.raises(CacheError) as caught:
        Stage.open(directory, "one")
    assert caught.value.kind is ErrorKind.NOT_FOUND


def test_a_stage_is_begun_again(directory: Path) -> None:
    written = Written(directory, b"x" * 10_000)
    written.write(0, b"old")
    written.stage.close()
    again = Written(directory, b"y" * 5000)
    assert again.read(0, 10_000) == b"y" * 5000
    assert again.stage.change(0) == 0
    again.stage.sync()
    again.stage.close()


def test_a_sparse_file_of_terabytes(directory: Path) -> None:
    stage = Stage.create(directory, "one", 0)
    stage.truncate(5 << 40)
    stage.write((5 << 40) - 3, b"end")
    assert stage.size == 5 << 40
    assert stage.runs((5 << 40) - 10, 100) == [((5 << 40) - 10, 5 << 40, True)]
    assert sum(file.stat().st_blocks * 512 for file in directory.iterdir()) < 1 << 20
    stage.close()
