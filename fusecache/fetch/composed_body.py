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


def compose(stage: Stage, start: int, target: memoryview, read_base: ReadBase) -> None:
    """Fill `target` with the file's bytes from `start` on, as they are now.

    Raises: BUSY if the file became shorter meanwhile; what `read_base` raises."""
    end = start + len(target)
    runs = stage.runs(start, len(target))
    if (runs[-1].end if runs else start) != end:
        raise CacheError(ErrorKind.BUSY, "the file was cut off while it was uploaded")
    for run in runs:
        piece = target[run.start - start : run.end - start]
        if not run.is_new:
            piece[:] = read_base(run.start, run.end - run.start)
        elif stage.pread_into(piece, run.start) != len(piece):
            raise CacheError(ErrorKind.BUSY, "the file was cut off while it was uploaded")


@dataclass(slots=True)
class ComposedBody:
    """[start, end) of the file as it is now. `buffer`: of that size, to put it together in; None: piece by piece."""

    stage: Stage
    start: int
    end: int
    read_base: ReadBase
    buffer: memoryview | None = None
    _is_composed: bool = False

    @property
    def size(self) -> int:
        return self.end - self.start

    def pieces(self) -> Iterator[Buffer]:
        """Raises: as `compose`."""
        if self.buffer is None:
            piece = memoryview(bytearray(min(PIECE_BYTES, self.size)))
            for at in range(self.start, self.end, PIECE_BYTES):
                part = piece[: self.end - at]
                compose(self.stage, at, part, self.read_base)
                yield part
            return
        if not self._is_composed:
            compose(self.stage, self.start, self.buffer, self.read_base)
            self._is_composed = True
        if self.size:
            yield self.buffer
