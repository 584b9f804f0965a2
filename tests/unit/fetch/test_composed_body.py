from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.composed_body import ComposedBody, compose
from fusecache.tiers.stage import GRAIN, Stage

BASE = bytes(range(256)) * 80  # five grains


def read_base(offset: int, length: int) -> bytes:
    return BASE[offset : offset + length]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with contextlib.closing(Stage.create(tmp_path, "1", len(BASE))) as stage:
        stage.write(GRAIN, b"n" * GRAIN)
        yield stage


@pytest.mark.parametrize("has_buffer", [True, False])
@pytest.mark.parametrize(("start", "end"), [(0, len(BASE)), (100, 2 * GRAIN + 1), (GRAIN, 2 * GRAIN), (0, 0)])
def test_new_bytes_lie_over_those_of_the_version(stage: Stage, start: int, end: int, has_buffer: bool) -> None:
    whole = BASE[:GRAIN] + b"n" * GRAIN + BASE[2 * GRAIN :]
    buffer = memoryview(bytearray(end - start)) if has_buffer else None
    body = ComposedBody(stage, start, end, read_base, buffer)
    assert body.size == end - start
    for _ in range(2):  # a body is asked for its pieces again when an upload is tried again
        assert b"".join(bytes(piece) for piece in body.pieces()) == whole[start:end]


def test_a_file_that_was_cut_off_meanwhile_is_not_put_together(stage: Stage) -> None:
    stage.truncate(GRAIN + 10)
    with pytest.raises(CacheError) as caught:
        compose(stage, 0, memoryview(bytearray(len(BASE))), read_base)
    assert caught.value.kind is ErrorKind.BUSY
