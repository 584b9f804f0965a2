"""Readers are started once and do pass after pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.readers import READER, ReadFailedError, run_readers, started_readers


def test_the_same_readers_do_several_passes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    order = {"do": "stream", "path": str(tmp_path / "file"), "buffer_bytes": 4096}
    begun = []
    with started_readers(READER, [order, order], os.environ, 10.0, lambda: None) as readers:
        readings = [readers.run_pass(lambda: begun.append(1)) for _ in range(3)]
    assert [reading.amount for reading in readings] == [2000] * 3
    assert len(begun) == 3


def test_a_reader_that_fails_says_why(tmp_path: Path) -> None:
    freed = []
    order = {"do": "stream", "path": str(tmp_path / "absent"), "buffer_bytes": 4096}
    with pytest.raises(ReadFailedError, match="No such file"):
        run_readers(READER, [order], os.environ, 10.0, lambda: freed.append(1))
    assert freed
