"""Files in the formats of foreign readers, in random bytes, and what is known of their content. Stateless.

The big file is a model and the small ones are searched as they are, so that neither is there twice.
"""

from __future__ import annotations

import io
import json
import random
import sqlite3
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fusecache.base.units import KIB, MIB

MODEL_HEADER_BYTES = 64 * KIB  # the format allows padding; a fixed size is found without trying
TENSOR_ROWS = 4096  # of half precision, square: 32 MiB, as many models have them
TENSOR_BYTES = 2 * TENSOR_ROWS * TENSOR_ROWS
MARK = b"a needle in hay"  # not in random bytes
MARK_OFFSET = 1000
MARKED = 10  # every so manyth small file
TABLE_NAME, ARCHIVE_NAME, DATABASE_NAME = "table.parquet", "files.tar", "rows.sqlite"
TABLE_COLUMNS = 8
ROW_GROUP_BYTES = 64 * MIB
MEMBER_BYTES = 100 * KIB
ROW_BYTES = 400  # a blob of so many in each row of the database


class Truths(NamedTuple):
    """What was known when files were made; what was not made has nothing.

    Attributes:
        tensors: how many the big file has.
        marks: how many small files hold `MARK`, once.
        table_rows, table_sums: of the Parquet file, for each column.
        members, members_crc: of the archive; the sum of the members' CRC-32.
        values: of the database, of id 1 first.
    """

    tensors: int = 0
    marks: int = 0
    table_rows: int = 0
    table_sums: Sequence[int] = ()
    members: int = 0
    members_crc: int = 0
    values: Sequence[int] = ()


NOTHING = Truths()


def make_files(directory: Path, size_bytes: int, seed: int) -> Truths:
    """Make a table, an archive, a database; `size_bytes` is that of the table, and twice that of each of the others."""
    rows, sums = make_table(directory / TABLE_NAME, size_bytes, seed)
    members, crc = make_archive(directory / ARCHIVE_NAME, size_bytes // 2, seed)
    values = make_database(directory / DATABASE_NAME, size_bytes // 2, seed)
    return Truths(table_rows=rows, table_sums=sums, members=members, members_crc=crc, values=values)


def make_model(path: Path) -> int:
    """Turn a file of random bytes into one of safetensors, by its header; return the number of tensors."""
    header = model_header(path.stat().st_size)
    with path.open("r+b") as file:
        file.write(header)
    return len(json.loads(header[8:]))


def model_header(file_bytes: int) -> bytes:
    """Return the beginning of a file: the length of the rest, then tensors with type, shape and place, padded."""
    data_bytes = file_bytes - MODEL_HEADER_BYTES
    tensors: dict[str, Any] = {}
    for start in range(0, data_bytes, TENSOR_BYTES):
        end = min(start + TENSOR_BYTES, data_bytes)
        whole = end - start == TENSOR_BYTES
        shape = [TENSOR_ROWS, TENSOR_ROWS] if whole else [end - start]
        name = f"layers.{start // TENSOR_BYTES:04d}.weight"
        tensors[name] = {"dtype": "F16" if whole else "U8", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(tensors, separators=(",", ":")).encode().ljust(MODEL_HEADER_BYTES - 8)
    if len(text) != MODEL_HEADER_BYTES - 8:
        raise ValueError(f"{len(tensors)} tensors do not fit into the header")
    return len(text).to_bytes(8, "little") + text


def hide_marks(root: Path, names: Iterable[str]) -> int:
    """Write `MARK` into some files; return into how many."""
    chosen = list(names)[::MARKED]
    for name in chosen:
        with (root / name).open("r+b") as file:
            file.seek(MARK_OFFSET)
            file.write(MARK)
    return len(chosen)


def make_table(path: Path, size_bytes: int, seed: int) -> tuple[int, list[int]]:
    """Write a Parquet file with the library's defaults but for dictionaries; return the number of rows, each column's sum."""
    import numpy
    import pyarrow
    import pyarrow.parquet

    source = numpy.random.default_rng(seed)
    rows = max(1, size_bytes // (8 * TABLE_COLUMNS))
    # Of all 64 bits: what compression can do nothing with costs none. Sums overflow, here and in the reader alike.
    columns = {f"c{number}": source.integers(-(1 << 63), (1 << 63) - 1, rows) for number in range(TABLE_COLUMNS)}
    group = ROW_GROUP_BYTES // (8 * TABLE_COLUMNS)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=group, use_dictionary=False)
    return rows, [int(column.sum()) for column in columns.values()]


def make_archive(path: Path, size_bytes: int, seed: int) -> tuple[int, int]:
    """Write a tar file of members of `MEMBER_BYTES`; return their number, the sum of their CRC-32."""
    source = random.Random(seed)
    crc = 0
    count = max(1, size_bytes // MEMBER_BYTES)
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            member = tarfile.TarInfo(f"member{number:05d}")
            member.size = MEMBER_BYTES
            data = source.randbytes(MEMBER_BYTES)
            crc += zlib.crc32(data)
            archive.addfile(member, io.BytesIO(data))
    return count, crc


def make_database(path: Path, size_bytes: int, seed: int) -> list[int]:
    """Write a database of about that size, one table of `id`, `value` and `body`; return the values, of id 1 first."""
    source = random.Random(seed)
    values = [source.getrandbits(32) for _ in range(max(1, size_bytes // ROW_BYTES))]
    database = sqlite3.connect(path)
    try:
        with database:
            database.execute("CREATE TABLE facts (id INTEGER PRIMARY KEY, value INTEGER NOT NULL, body BLOB NOT NULL)")
            rows = ((number, value, source.randbytes(ROW_BYTES)) for number, value in enumerate(values, 1))
            database.executemany("INSERT INTO facts VALUES (?, ?, ?)", rows)
    finally:
        database.close()
    return values
