"""What each foreign reader is ordered to read, with what it has to find there: known before anything is read.

State: what was found in the plain copy, which is read once.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xxhash

from fusecache.base.units import MIB
from tests.bench.dataset import BIG, BIG_NAME, FOREIGN, SMALL, Dataset
from tests.bench.foreign import files
from tests.bench.settings import SMALL_BYTES

PROGRAM = Path(__file__).with_name("reader_jobs.py")
LOADER_PROCESSES = 4
LOADER_BATCH = 32
SCANNED_COLUMNS = (1, 4, 6)  # apart from each other in each row group
LOOKED_UP = 1000
SAMPLE_BYTES = 8  # of each file, summed up in each pass

Order = dict[str, Any]


class ForeignOrders:
    """Makes the orders for one dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._found: dict[str, Order] = {}

    def order(self, name: str, root: str, number: int) -> Order:
        """Return the order for the reader of a column.

        Args:
            root: of the part that the reader reads.
            number: of the round; what is read in random order has another one in each.
        """
        make: Callable[[], Order] = {
            "model": self._model,
            "loader": self._loader,
            "parquet": self._table,
            "tar": self._archive,
            "grep": self._search,
            "sqlite": self._database,
        }[name]
        if name not in self._found:
            self._found[name] = make()
        order: Order = {
            "do": "foreign",
            "program": str(PROGRAM),
            "job": name,
            "root": root,
            "thorough": number == 0,
            **self._found[name],
        }
        if "names" in order:
            order["names"] = random.Random(number).sample(order["names"], len(order["names"]))
        return order

    def _model(self) -> Order:
        path = self._dataset.root / BIG / BIG_NAME
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            file.seek(files.MODEL_HEADER_BYTES)
            while piece := file.read(8 * MIB):
                digest.update(piece)
        size = path.stat().st_size - files.MODEL_HEADER_BYTES
        return {"name": BIG_NAME, "tensors": self._dataset.truths.tensors, "bytes": size, "digest": digest.hexdigest()}

    def _loader(self) -> Order:
        names = self._dataset.parts[SMALL].names
        crc, sample = sums_of([self._dataset.root / SMALL / name for name in names])
        sizes = {"file_bytes": SMALL_BYTES, "sample_bytes": SAMPLE_BYTES, "bytes": SMALL_BYTES * len(names)}
        return {"names": names, "processes": LOADER_PROCESSES, "batch": LOADER_BATCH, "crc": crc, "sample": sample, **sizes}

    def _search(self) -> Order:
        part = self._dataset.parts[SMALL]
        return {"mark": files.MARK.decode(), "expected": self._dataset.truths.marks, "bytes": part.bytes_of(part.names)}

    def _table(self) -> Order:
        rows, sums = self._dataset.truths.table_rows, self._dataset.truths.table_sums
        columns = [f"c{number}" for number in SCANNED_COLUMNS]
        expected = [sums[number] for number in SCANNED_COLUMNS]
        return {"name": files.TABLE_NAME, "columns": columns, "expected": expected, "bytes": 8 * rows * len(columns)}

    def _archive(self) -> Order:
        size = self._dataset.parts[FOREIGN].sizes[files.ARCHIVE_NAME]
        target = str(self._dataset.root.parent / "unpacked")
        count, crc = self._dataset.truths.members, self._dataset.truths.members_crc
        return {"name": files.ARCHIVE_NAME, "target": target, "members": count, "crc": crc, "bytes": size}

    def _database(self) -> Order:
        values = self._dataset.truths.values
        ids = [random.Random(LOOKED_UP).randrange(len(values)) + 1 for _ in range(LOOKED_UP)]
        size = self._dataset.parts[FOREIGN].sizes[files.DATABASE_NAME]
        found = {"rows": len(values), "sum": sum(values), "looked_up": sum(values[one - 1] for one in ids)}
        return {"name": files.DATABASE_NAME, "ids": ids, "body_bytes": files.ROW_BYTES * len(values), "bytes": size, **found}


def sums_of(paths: Sequence[Path]) -> tuple[int, int]:
    """Return two sums over files: of their CRC-32, and of their first bytes as numbers."""
    crc = sample = 0
    for path in paths:
        data = path.read_bytes()
        crc += zlib.crc32(data)
        sample += int.from_bytes(data[:SAMPLE_BYTES], "little")
    return crc, sample % (1 << 64)
