"""Bodies of uploads: a buffer, or a range of a file. Stateless but for what they name; any thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import Buffer

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BufferBody:
    data: Buffer

    @property
    def size(self) -> int:
        return len(self.data)

    def pieces(self) -> Iterator[Buffer]:
        if self.data:
            yield self.data


@dataclass(frozen=True, slots=True)
class FileBody:
    """[offset, offset + size) of an open file, which stays the caller's."""

    fd: int
    offset: int
    size: int

    def pieces(self) -> Iterator[Buffer]:
        """Raises: STALE if the file is shorter."""
        offset, end = self.offset, self.offset + self.size
        buffer = bytearray(min(PIECE_BYTES, self.size))
        view = memoryview(buffer)
        while offset < end:
            count = os.preadv(self.fd, [view[: min(len(view), end - offset)]], offset)
            if count == 0:
                raise CacheError(ErrorKind.STALE, f"a file that is being uploaded ends at {offset}, before {end}")
            yield view[:count]
            offset += count
