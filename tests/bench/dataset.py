"""The bytes that every contender serves, in parts that are mounted one by one; the same in each run.

Owns the plain copy below `root` (which is the tmpfs contender too). Made once, before anything is measured.
"""

from __future__ import annotations

import math
import random
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fusecache.base.units import KIB, MIB
from fusecache.cli.demo_data import large_files
from tests.bench.foreign import files as foreign_files
from tests.bench.settings import FILES_PER_DIRECTORY, NAMES_PER_DIRECTORY, PARALLEL_FILES, SMALL_BYTES, Settings

BIG = "big"
PARALLEL = "parallel"
SMALL = "small"
MIXED = "mixed"
NAMES = "names"
LINK = "link"
FOREIGN = "foreign"
WRITES = "writes"  # without files: what is written is made while it is
BIG_NAME = "big.bin"
MIXED_MEDIAN_BYTES = 40 * KIB
MIXED_SIGMA = math.log(512 / 40) / 2.326  # so that the 99th percentile is 512 KiB
MIXED_LARGE = 1000  # every so manyth file has several MiB
COPIERS = 8  # threads that copy the dataset into a mount; a guess
SEED = 20


class Part(NamedTuple):
    """`sizes`: bytes of each file, by its name relative to the part's directory, in the order of the listing."""

    name: str
    sizes: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        return list(self.sizes)

    @property
    def entries(self) -> int:
        """Names below the part's directory: files and directories."""
        return len(self.sizes) + len({name.rpartition("/")[0] for name in self.sizes if "/" in name})

    def shuffled(self, seed: int) -> list[str]:
        names = self.names
        random.Random(seed).shuffle(names)
        return names

    def bytes_of(self, names: Iterable[str]) -> int:
        return sum(self.sizes[name] for name in names)


def make_part(name: str, settings: Settings) -> Part:
    if name == BIG:
        return Part(name, {BIG_NAME: settings.big_bytes})
    if name == PARALLEL:
        return Part(name, {f"quarter{number}.bin": settings.big_bytes // PARALLEL_FILES for number in range(PARALLEL_FILES)})
    if name == LINK:
        return Part(name, {file.name.rpartition("/")[2]: file.size for file in large_files(settings.scale)})
    if name == WRITES:
        return Part(name, {})
    if name == NAMES:
        return Part(name, {f"p{n // NAMES_PER_DIRECTORY:04d}/o{n:07d}": 0 for n in range(settings.names)})
    if name == SMALL:
        return Part(name, {_small_name(number): SMALL_BYTES for number in range(settings.files)})
    return Part(name, dict(zip(map(_small_name, range(settings.mixed_files)), _mixed_sizes(), strict=False)))


def _small_name(number: int) -> str:
    return f"class{number // FILES_PER_DIRECTORY:03d}/image{number:06d}.jpg"


def _mixed_sizes() -> Iterable[int]:
    source = random.Random(SEED)
    number = 0
    while True:
        number += 1
        large = number % MIXED_LARGE == 0
        yield source.randrange(2 * MIB, 8 * MIB) if large else 1 + int(source.lognormvariate(0, MIXED_SIGMA) * MIXED_MEDIAN_BYTES)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Parts that lie below `root`, each in a directory of its name; but for `NAMES`, which only the store has.

    `truths`: what foreign readers have to find.
    """

    root: Path
    parts: Mapping[str, Part]
    truths: foreign_files.Truths = foreign_files.NOTHING

    @classmethod
    def make(cls, root: Path, settings: Settings, names: Collection[str]) -> Dataset:
        dataset = cls(root, {name: make_part(name, settings) for name in names if name != FOREIGN})
        source = random.Random(SEED)  # bytes that no store can compress and that are the same in each run
        root.mkdir(parents=True, exist_ok=True)
        if NAMES in dataset.parts:
            return dataset
        for directory in dataset.directories:
            (root / directory).mkdir(parents=True, exist_ok=True)
        for name, size in dataset.files.items():
            with (root / name).open("wb") as file:
                left = size
                while left > 0:
                    left -= file.write(source.randbytes(min(left, MIB)))
        return dataset._with_foreign_files(settings if FOREIGN in names else None)

    def _with_foreign_files(self, settings: Settings | None) -> Dataset:
        """Make files that foreign readers read, in a part of their own if there are settings, and of the other parts' files."""
        parts, truths = dict(self.parts), self.truths
        if settings is not None:
            directory = self.root / FOREIGN
            directory.mkdir()
            truths = foreign_files.make_files(directory, settings.foreign_bytes, SEED)
            parts[FOREIGN] = Part(FOREIGN, {path.name: path.stat().st_size for path in sorted(directory.iterdir())})
        if BIG in parts:
            truths = truths._replace(tensors=foreign_files.make_model(self.root / BIG / BIG_NAME))
        if SMALL in parts:
            truths = truths._replace(marks=foreign_files.hide_marks(self.root / SMALL, parts[SMALL].names))
        return Dataset(self.root, parts, truths)

    @property
    def files(self) -> dict[str, int]:
        """Bytes of all files, by their names relative to `root`."""
        return {f"{part.name}/{name}": size for part in self.parts.values() for name, size in part.sizes.items()}

    @property
    def directories(self) -> list[str]:
        return sorted({name.rpartition("/")[0] for name in self.files})

    def for_each(self, act: Callable[[str], object]) -> None:
        """Call `act` with every name, from several threads. The first error ends it."""
        names = iter(list(self.files))  # one for all threads: taking the next name of a list is one step
        failed = threading.Event()

        def work() -> None:
            for name in names:
                if failed.is_set():
                    return
                try:
                    act(name)
                except BaseException:
                    failed.set()
                    raise

        with ThreadPoolExecutor(COPIERS) as pool:
            futures = [pool.submit(work) for _ in range(COPIERS)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                failed.set()
                raise

    def copy_into(self, target: Path) -> None:
        for directory in self.directories:
            (target / directory).mkdir(parents=True, exist_ok=True)
        self.for_each(lambda name: shutil.copyfile(self.root / name, target / name))
