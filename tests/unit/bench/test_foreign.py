"""Files for foreign readers, and readers that find in them what they are told to find, or say that they do not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.bench import records
from tests.bench.columns import BY_NAME, Job
from tests.bench.dataset import BIG, BIG_NAME, FOREIGN, SMALL, Dataset
from tests.bench.figures import Figure
from tests.bench.foreign import files
from tests.bench.foreign.orders import ForeignOrders
from tests.bench.readers import READER, ReadFailedError, started_readers
from tests.bench.results import Table
from tests.bench.settings import Settings

MIB = 1 << 20
SETTINGS = Settings(big_bytes=2 * MIB, files=70, rounds=1, contenders=(), columns=())
PARTS = {"model": BIG, "loader": SMALL, "grep": SMALL, "parquet": FOREIGN, "tar": FOREIGN, "sqlite": FOREIGN}
LIBRARIES = {"model": "safetensors", "loader": "numpy"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    pytest.importorskip("pyarrow", reason="make bench installs it")
    return Dataset.make(tmp_path_factory.mktemp("foreign") / "data", SETTINGS, (BIG, SMALL, FOREIGN))


def run(dataset: Dataset, name: str, passes: int = 2) -> list[int]:
    order = ForeignOrders(dataset).order(name, str(dataset.root / PARTS[name]), 0)
    with started_readers(READER, [order], os.environ, 30.0, lambda: None) as readers:
        return [readers.run_pass().amount for _ in range(passes)]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PARTS))
def test_a_reader_finds_what_it_is_to_find(dataset: Dataset, name: str) -> None:
    pytest.importorskip(LIBRARIES.get(name, "pyarrow"))
    first, second = run(dataset, name)
    assert first == second > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path", "offset"),
    [
        ("model", f"{BIG}/{BIG_NAME}", MIB),
        ("loader", f"{SMALL}/class000/image000005.jpg", 5000),
        ("grep", f"{SMALL}/class000/image000010.jpg", files.MARK_OFFSET),
        ("tar", f"{FOREIGN}/{files.ARCHIVE_NAME}", 100_000),
    ],
)
def test_a_reader_notices_a_wrong_byte(dataset: Dataset, name: str, path: str, offset: int) -> None:
    pytest.importorskip(LIBRARIES.get(name, "pyarrow"))
    whole = dataset.root / path
    order = ForeignOrders(dataset).order(name, str(dataset.root / PARTS[name]), 0)
    with whole.open("r+b") as file:
        file.seek(offset)
        before = file.read(1)
        file.seek(offset)
        file.write(bytes([before[0] ^ 1]))
    try:
        with (
            started_readers(READER, [order], os.environ, 30.0, lambda: None) as readers,
            pytest.raises(ReadFailedError, match=f"^{name}: "),
        ):
            readers.run_pass()
    finally:
        with whole.open("r+b") as file:
            file.seek(offset)
            file.write(before)


def test_the_big_file_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "big"
    size = files.MODEL_HEADER_BYTES + 2 * files.TENSOR_BYTES + 10
    with path.open("wb") as file:
        file.truncate(size)
    assert files.make_model(path) == 3
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(length))
    assert path.stat().st_size == size
    assert 8 + length == files.MODEL_HEADER_BYTES
    assert [one["data_offsets"][0] for one in tensors.values()] == [0, files.TENSOR_BYTES, 2 * files.TENSOR_BYTES]
    assert [one["dtype"] for one in tensors.values()] == ["F16", "F16", "U8"]


def test_marks_are_in_every_so_manyth_file(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(25)]
    for name in names:
        (tmp_path / name).write_bytes(bytes(2000))
    assert files.hide_marks(tmp_path, names) == 3
    assert [name for name in names if files.MARK in (tmp_path / name).read_bytes()] == ["f0", "f10", "f20"]
    assert (tmp_path / "f0").stat().st_size == 2000


def test_each_foreign_column_has_a_reader_and_a_record() -> None:
    columns = [name for name, column in BY_NAME.items() if column.job is Job.FOREIGN]
    assert {name.partition("-")[2] for name in columns} == set(PARTS)
    figures = [Figure(contender, name, 0, 1.0, 1.0) for name in columns for contender in ("fusecache", "tmpfs")]
    judged = [one for one in records.judge(Table(figures), SETTINGS) if one.record.row == 19]
    assert [one.verdict for one in judged] == ["yes"] * len(columns)
