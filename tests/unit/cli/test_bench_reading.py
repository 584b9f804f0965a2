"""What a bench reads of a tree, on a plain directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusecache.cli import bench_reading
from fusecache.cli.bench_reading import Reading
from fusecache.contract.errors import CacheError, ErrorKind

MIB = 1 << 20


@pytest.fixture(autouse=True)
def short_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_reading, "LEAST_SECONDS", 0.001)


def measure(root: Path, size: int = 8 * MIB, files: int = 10) -> Reading:
    reading = Reading(str(root), "cold", size, files, lambda: None)
    reading.run(lambda text: None)
    return reading


def test_every_kind_of_reading_is_measured(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "large").write_bytes(os.urandom(3 * MIB))
    for number in range(12):
        (tmp_path / "sub" / str(number)).write_bytes(os.urandom(1000))
    found = {result.name: result for result in measure(tmp_path).results}
    assert list(found) == [
        *("names-first", "stat-first", "names-again", "stat-again"),
        *("sequential-first", "sequential-cached", "sequential-hot", "random-1", "random-8"),
        *("small-first", "small-cached", "small-hot"),
    ]
    assert found["names-first"].amount == 14
    assert found["stat-first"].amount == 13
    assert found["sequential-first"].amount == 3 * MIB
    assert found["random-8"].amount == 24 * found["random-8"].passes
    assert found["small-first"].amount == 10
    assert all(result.rate > 0 for result in found.values())


def test_a_large_file_is_read_as_far_as_was_asked(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * MIB))
    reading = measure(tmp_path, size=2 * MIB)
    assert {result.name: result.amount for result in reading.results}["sequential-first"] == 2 * MIB
    assert any("passthrough" in note for note in reading.notes)
    assert any("no small files" in note for note in reading.notes)


def test_an_empty_tree_has_names_only(tmp_path: Path) -> None:
    reading = measure(tmp_path)
    assert {result.group for result in reading.results} == {"metadata"}
    assert len(reading.notes) == 2


def test_a_tree_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="cannot be read: No such file") as caught:
        measure(tmp_path / "absent")
    assert caught.value.kind is ErrorKind.UNAVAILABLE


def test_it_stops_when_it_is_told_to(tmp_path: Path) -> None:
    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Reading(str(tmp_path), "cold", MIB, 1, check).run(lambda text: None)
