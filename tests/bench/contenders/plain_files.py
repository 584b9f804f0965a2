"""The same files on tmpfs, without any daemon: the speed of this machine's memory through the same system calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.bench.columns import COLUMNS
from tests.bench.contenders.contender import Place, part_directory
from tests.bench.dataset import Dataset
from tests.bench.readers import READER


class PlainFiles:
    """Has nothing to fetch, hence no cold columns but `find`."""

    name = "tmpfs"
    title = "tmpfs"
    columns: tuple[str, ...] = tuple(column.name for column in COLUMNS if not column.cold or column.group == "find")

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def prepare(self) -> None:
        pass

    @contextlib.contextmanager
    def open(self, part: str, *, list_ahead: bool) -> Iterator[Place]:
        yield Place(READER, str(self._dataset.root / part_directory(part)))

    def version(self) -> str:
        return ""

    def options(self) -> str:
        return "the files themselves"
