"""The bytes of a part, put together out of a stage and the version under it. Used by one worker thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import Buffer
from fusecache.tiers.stage import Stage

PIECE_BYTES = 1 << 20
KEPT_BYTES = 32 << 20  # parts of up to this are put together once; larger ones each time they are read

ReadBase = Callable[[int, int], Buffer]  # offset, length -> bytes of the version in the store


@dataclass(slots=True)
class ComposedBody:
    """[start, end) of the file as it is now."""

    stage: Stage
    start: int
    end: int
    read_base: ReadBase
    _kept: bytes | None = None

    @property
    def size(self) -> int:
        return self.end - self.start

    def pieces(self) -> Iterator[Buffer]:
        """Raises: BUSY if the file became shorter meanwhile; what `read_base` raises."""
        if self.size > KEPT_BYTES:
            yield from self._compose()
            return
        if self._kept is None:
            self._kept = b"".join(bytes(piece) for piece in self._compose())
        if self._kept:
            yield self._kept

    def _compose(self) -> Iterator[Buffer]:
        for at in range(self.start, self.end, PIECE_BYTES):
            size = min(PIECE_BYTES, self.end - at)
            runs = self.stage.runs(at, size)
            if not runs or runs[-1].end != at + size:
                raise CacheError(ErrorKind.BUSY, "the file was cut off while it was uploaded")
            for run in runs:
                if not run.is_new:
                    yield self.read_base(run.start, run.end - run.start)
                    continue
                piece = bytearray(run.end - run.start)
                if self.stage.pread_into(memoryview(piece), run.start) != len(piece):
                    raise CacheError(ErrorKind.BUSY, "the file was cut off while it was uploaded")
                yield piece
