"""Benches with a block store, checked and closed at the end of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.store_bench import StoreBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., StoreBench]]:
    made: list[StoreBench] = []

    def make(*quotas: int, **options: Any) -> StoreBench:
        made.append(StoreBench(tmp_path / str(len(made)), *(quotas or (1 << 20,)), **options))
        return made[-1]

    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    yield make
    for one in made:
        one.close()
