"""Table `containers`: the files that hold cached bytes.

Key: container id, 8 bytes big-endian, never reused. Value, sealed:

| field | type | meaning |
|---|---|---|
| tier | u8 | position in the spec's list |
| kind | u8 | ContainerKind |
| inode | u64 | of a WHOLE_FILE container, else 0 |
| end | u64 | SEGMENT: where the next object goes; WHOLE_FILE: size of the object |
| live_bytes | u64 | bytes of its extents |
| live_blocks | u32 | number of its extents; 0 means the file may be unlinked |
| written_ns | i64 | ctime of the file when fetch knew all its bytes to be right, 0 if never: see below |

A container whose file was touched after `written_ns` is verified again before it is handed to the kernel (passthrough).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

from fusecache.index.environment import Environment, Transaction
from fusecache.index.inodes import InodeNo
from fusecache.index.sealed import seal, unseal

ContainerId = int

_KEY = struct.Struct(">Q")
_ROW = struct.Struct("<BBQQQIq")


class ContainerKind(enum.IntEnum):
    SEGMENT = 1  # small objects, one behind the other
    WHOLE_FILE = 2  # one large object, sparse, offset in the container = offset in the object


class Container(NamedTuple):
    tier: int
    kind: int
    inode: InodeNo
    end: int
    live_bytes: int
    live_blocks: int
    written_ns: int


class Containers:
    def __init__(self, env: Environment) -> None:
        self._db = env.db["containers"]

    def get(self, txn: Transaction, container: ContainerId) -> Container | None:
        key = _KEY.pack(container)
        sealed = txn.get(key, db=self._db)
        return None if sealed is None else Container(*_ROW.unpack(unseal(key, sealed)))

    def put(self, txn: Transaction, container: ContainerId, row: Container) -> None:
        key = _KEY.pack(container)
        txn.put(key, seal(key, _ROW.pack(*row)), db=self._db)

    def delete(self, txn: Transaction, container: ContainerId) -> None:
        txn.delete(_KEY.pack(container), db=self._db)

    def iterate(self, txn: Transaction) -> Iterator[tuple[ContainerId, Container]]:
        with txn.cursor(db=self._db) as cursor:
            for key, sealed in cursor:
                yield _KEY.unpack(key)[0], Container(*_ROW.unpack(unseal(key, sealed)))
