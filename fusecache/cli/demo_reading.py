"""Reads files of the demo's mount and compares every byte's digest with what was uploaded.

State: what one pass found. One thread, as `cp -R` has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import xxhash

from fusecache.base.units import MIB
from fusecache.cli.demo_data import DemoFile

PIECE_BYTES = 1 * MIB


@dataclass(slots=True)
class Pass:
    """What reading some files came to. `errors` are sentences; `longest_seconds` is the longest single read(2)."""

    files: int = 0
    size: int = 0
    seconds: float = 0.0
    longest_seconds: float = 0.0
    errors: list[str] = field(default_factory=list)


class Reader:
    """Copies files out of a mount.

    Args:
        root: the mount point.
        scratch: a directory for the copies, each removed as soon as it is complete.
        on_bytes: is told of each piece read, between two reads; may raise to stop.
    """

    def __init__(self, root: str, scratch: str, digests: Mapping[str, bytes], on_bytes: Callable[[int], None]) -> None:
        self._root = root
        self._scratch = scratch
        self._digests = digests
        self._on_bytes = on_bytes

    def copy(self, files: Iterable[DemoFile]) -> Pass:
        """Copy each file to the scratch directory as `cp` does, checking it on the way. An error is noted, not raised."""
        result = Pass()
        started = time.monotonic()
        for file in files:
            try:
                self._copy_one(file, result)
                result.files += 1
            except OSError as error:
                result.errors.append(f"{file.name}: {error.strerror}")
        result.seconds = time.monotonic() - started
        return result

    def _copy_one(self, file: DemoFile, result: Pass) -> None:
        digest = xxhash.xxh3_128()
        target = os.path.join(self._scratch, "copy")
        buffer = memoryview(bytearray(PIECE_BYTES))
        with open(os.path.join(self._root, file.name), "rb", buffering=0) as source, open(target, "wb", buffering=0) as copy:
            while True:
                started = time.monotonic()
                count = source.readinto(buffer)
                result.longest_seconds = max(result.longest_seconds, time.monotonic() - started)
                if not count:
                    break
                digest.update(buffer[:count])
                copy.write(buffer[:count])
                result.size += count
                self._on_bytes(count)
        os.unlink(target)
        if digest.digest() != self._digests[file.name]:
            result.errors.append(f"{file.name}: the bytes read are not those uploaded")
