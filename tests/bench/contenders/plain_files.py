"""The same files without any daemon: the speed of this machine's memory, or of its disk, through the same system calls.

Owns a copy of one part on the disk, made when it is first asked for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.bench.columns import COLUMNS, MOUNTS_ONLY, Job
from tests.bench.contenders.contender import Place, Setup
from tests.bench.dataset import Dataset
from tests.bench.readers import READER


class PlainFiles:
    """Has nothing to fetch, hence no cold columns but `find` and what is written."""

    name = "tmpfs"
    title = "tmpfs"
    once = False
    plain_objects = False
    writes_back = False
    columns: tuple[str, ...] = tuple(
        column.name
        for column in COLUMNS
        if column.job in (Job.STREAM, Job.RANDOM, Job.FILES, Job.WALK, Job.COPY, Job.FOREIGN, Job.WRITE, Job.CREATE)
        and (not column.cold or column.job in (Job.WALK, Job.WRITE, Job.CREATE))
        and column.group not in ("serve", "names")
        and column.name not in MOUNTS_ONLY
    )

    def __init__(self, dataset: Dataset, disk: Path | None) -> None:
        self._dataset = dataset
        self._disk = disk
        if disk is None:
            self.columns = tuple(name for name in self.columns if name != "disk")

    def prepare(self) -> None:
        pass

    @contextlib.contextmanager
    def open(self, part: str, setup: Setup) -> Iterator[Place]:
        if setup.bucket:
            directory = Path(self.root(part))
            directory.mkdir()
            try:
                yield Place(READER, str(directory))
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            return
        if not setup.on_disk:
            yield Place(READER, self.root(part))
            return
        assert self._disk is not None
        copy = self._disk / "plain" / part
        if not copy.exists():
            shutil.copytree(self._dataset.root / part, copy)
            os.sync()
        yield Place(READER, str(copy))

    def root(self, part: str) -> str:
        return str(self._dataset.root / part)

    def abort(self) -> None:
        pass

    def version(self) -> str:
        return ""

    def options(self) -> str:
        return "the files themselves; where the cache of others lies on a disk, a copy on the same disk"
