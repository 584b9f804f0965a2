"""Stages that fetch has open: opened once for the life of a file that is being written, and not for every question about it.

State: open stages, bounded. The loop's thread takes and gives them; worker threads use one that was taken. Invariant: a stage is
closed only while nobody uses it.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from fusecache.tiers import stage as stages
from fusecache.tiers.stage import Stage

MOST_IDLE = 128


class _Open:
    __slots__ = ("stage", "users")

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.users = 0


class Stages:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._open: OrderedDict[int, _Open] = OrderedDict()

    @contextlib.contextmanager
    def use(self, number: int) -> Iterator[Stage]:
        """Raises: NOT_FOUND, CORRUPT."""
        held = self._open.get(number)
        if held is None:
            held = self._open[number] = _Open(Stage.open(self.directory, f"{number:x}"))
            self._close_idle()
        else:
            self._open.move_to_end(number)
        held.users += 1
        try:
            yield held.stage
        finally:
            held.users -= 1
            if not held.users and self._open.get(number) is not held:
                held.stage.close()

    def forget(self, number: int) -> None:
        """Its files are about to go, or to get other names."""
        held = self._open.pop(number, None)
        if held is not None and not held.users:
            held.stage.close()

    def remove(self, number: int) -> None:
        """Remove a stage, and what was noted of its upload."""
        self.forget(number)
        stages.remove(self.directory, f"{number:x}")

    def _close_idle(self) -> None:
        surplus = len(self._open) - MOST_IDLE
        for number in [number for number, held in self._open.items() if not held.users][: max(0, surplus)]:
            self._open.pop(number).stage.close()
