"""The parts of the dataset: how many files, how large."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.bench.dataset import MIXED, NAMES, PARALLEL, SMALL, Dataset, make_part
from tests.bench.settings import Settings

SETTINGS = Settings(big_bytes=1 << 20, files=10_000, rounds=1, contenders=(), columns=())


def test_mixed_sizes_have_the_median_and_the_tail_they_are_said_to_have() -> None:
    sizes = sorted(make_part(MIXED, SETTINGS).sizes.values())
    assert len(sizes) == 2500
    assert 36 << 10 < statistics.median(sizes) < 44 << 10
    assert 400 << 10 < sizes[-len(sizes) // 100] < 640 << 10
    assert sizes[-1] > 2 << 20
    assert sizes[0] > 0


def test_the_parallel_files_are_the_big_size_together() -> None:
    assert sum(make_part(PARALLEL, SETTINGS).sizes.values()) == SETTINGS.big_bytes


def test_a_dataset_lies_in_directories_of_its_parts(tmp_path: Path) -> None:
    settings = Settings(big_bytes=1 << 20, files=3, rounds=1, contenders=(), columns=())
    dataset = Dataset.make(tmp_path, settings, (SMALL,))
    assert dataset.directories == ["small/class000"]
    assert {name: (tmp_path / name).stat().st_size for name in dataset.files} == dataset.files
    assert dataset.parts[SMALL].entries == 4


def test_many_names_are_in_the_store_only(tmp_path: Path) -> None:
    settings = Settings(big_bytes=1 << 20, files=3, rounds=1, contenders=(), columns=(), names=2500)
    dataset = Dataset.make(tmp_path / "data", settings, (NAMES,))
    assert list((tmp_path / "data").iterdir()) == []
    assert dataset.parts[NAMES].entries == 2503


def test_the_first_error_ends_what_is_done_for_each_file(tmp_path: Path) -> None:
    settings = Settings(big_bytes=1 << 20, files=3, rounds=1, contenders=(), columns=(), names=100_000)
    dataset = Dataset.make(tmp_path, settings, (NAMES,))
    done = []

    def act(name: str) -> None:
        done.append(name)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        dataset.for_each(act)
    assert len(done) <= 8
    done.clear()
    dataset.for_each(done.append)
    assert sorted(done) == sorted(dataset.files)
