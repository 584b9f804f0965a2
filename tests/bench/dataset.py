"""The bytes that every contender serves: one big file, many small ones, the same in each run.

Owns the plain copy below `root` (which is the tmpfs contender too). Made once, before anything is measured.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fusecache.base.units import MIB
from tests.bench.settings import FILES_PER_DIRECTORY, SMALL_BYTES, Settings

BIG_DIRECTORY = "big"
BIG_NAME = "big.bin"
SMALL_DIRECTORY = "small"
COPIERS = 8  # threads that copy the dataset into a mount; a guess
SEED = 20


@dataclass(frozen=True, slots=True)
class Dataset:
    """`small` holds names relative to `root`/small, in the order of the listing."""

    root: Path
    big_bytes: int
    small: tuple[str, ...]

    @classmethod
    def make(cls, root: Path, settings: Settings) -> Dataset:
        source = random.Random(SEED)  # bytes that no store can compress and that are the same in each run
        (root / BIG_DIRECTORY).mkdir(parents=True)
        with (root / BIG_DIRECTORY / BIG_NAME).open("wb") as big:
            left = settings.big_bytes
            while left > 0:
                left -= big.write(source.randbytes(min(left, MIB)))
        names = []
        for number in range(settings.files):
            name = f"class{number // FILES_PER_DIRECTORY:03d}/image{number:06d}.jpg"
            path = root / SMALL_DIRECTORY / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.randbytes(SMALL_BYTES))
            names.append(name)
        return cls(root, settings.big_bytes, tuple(names))

    @property
    def names(self) -> list[str]:
        """All files, relative to `root`."""
        return [f"{BIG_DIRECTORY}/{BIG_NAME}", *(f"{SMALL_DIRECTORY}/{name}" for name in self.small)]

    @property
    def small_entries(self) -> int:
        """Names below small/: files and directories."""
        return len(self.small) + len({name.rpartition("/")[0] for name in self.small})

    def for_each(self, act: Callable[[str], object]) -> None:
        """Call `act` with every name, from several threads. The first error ends it."""
        with ThreadPoolExecutor(COPIERS) as pool:
            futures = [pool.submit(act, name) for name in self.names]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def copy_into(self, target: Path) -> None:
        for directory in sorted({(target / name).parent for name in self.names}):
            directory.mkdir(parents=True, exist_ok=True)
        self.for_each(lambda name: shutil.copyfile(self.root / name, target / name))

    def shuffled(self, seed: int) -> list[str]:
        names = list(self.small)
        random.Random(seed).shuffle(names)
        return names
