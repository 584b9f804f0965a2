"""What the demo shows while it works: a bar for each step on a terminal, a line for each step elsewhere.

State: the live display. Main thread; `open_steps` takes the display off the terminal again.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import click

from fusecache.base.units import format_size


class Steps(Protocol):
    def say(self, text: str) -> None:
        """Begin a step that has no measure."""

    def bar(self, text: str, total_bytes: int) -> contextlib.AbstractContextManager[Callable[[int], None]]:
        """Begin a step that is measured in bytes; yields what to call with each piece."""


class _Lines:
    def say(self, text: str) -> None:
        click.echo(f"{text} ...")

    @contextlib.contextmanager
    def bar(self, text: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        started = time.monotonic()
        click.echo(f"{text} ...")
        yield lambda count: None
        click.echo(f"{text}: {format_size(total_bytes)} in {time.monotonic() - started:.1f} s")


class _Bars:
    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def say(self, text: str) -> None:
        self._progress.console.print(f"{text} ...", highlight=False, markup=False)

    @contextlib.contextmanager
    def bar(self, text: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        task = self._progress.add_task(text, total=total_bytes)
        yield lambda count: self._progress.advance(task, count)
        self._progress.update(task, completed=total_bytes)


@contextlib.contextmanager
def open_steps() -> Iterator[Steps]:
    if not sys.stdout.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn

    text = TextColumn("{task.description}", markup=False)
    with Progress(text, BarColumn(bar_width=20), TaskProgressColumn(), TransferSpeedColumn()) as progress:  # fits 80 columns
        yield _Bars(progress)
