"""How far a warm is: a live bar on a terminal, a line every few seconds elsewhere.

State: the display of one run, used from one thread.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import click

from fusecache.base.units import format_percentage, format_size
from fusecache.cli.text import printable, seconds_left

LINE_SECONDS = 5.0
RATE_SECONDS = 10.0  # the rate shown is the mean of the last ten seconds


class Progress(Protocol):
    """Takes the progress messages of contract/control.py."""

    def update(self, answer: Mapping[str, Any]) -> None: ...

    def finish(self, answer: Mapping[str, Any]) -> None: ...


class Rate:
    """Bytes a second over the last RATE_SECONDS, and what that makes of the rest."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def add(self, done_bytes: int, now: float) -> None:
        if self._samples and done_bytes < self._samples[-1][1]:
            self._samples.clear()  # the request was sent again
        self._samples.append((now, done_bytes))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_SECONDS:
            self._samples.pop(0)

    @property
    def bytes_per_second(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def seconds_left(self, left_bytes: int) -> float | None:
        rate = self.bytes_per_second
        return left_bytes / rate if rate > 0 else None


def describe(answer: Mapping[str, Any], rate: Rate) -> str:
    """Return files, bytes, rate and time left as one line."""
    more = "+" if answer.get("listing") else ""
    done, total = int(answer.get("bytes", 0)), int(answer.get("bytes_total", 0))
    left = None if more else rate.seconds_left(total - done)
    parts = [
        f"{answer.get('files', 0)}/{answer.get('files_total', 0)}{more} files",
        f"{format_size(done)}/{format_size(total)}{more}",
        format_percentage(done, total),
        f"{format_size(rate.bytes_per_second)}/s",
    ]
    return ", ".join([*parts, *([f"{seconds_left(left)} left"] if left is not None else [])])


class _Silent:
    def update(self, answer: Mapping[str, Any]) -> None:
        pass

    def finish(self, answer: Mapping[str, Any]) -> None:
        pass


class _Lines:
    """For logs: a line at the start of work, every LINE_SECONDS, and at the end."""

    def __init__(self, name: str) -> None:
        self._name = printable(name)
        self._rate = Rate()
        self._last: Mapping[str, Any] = {}
        self._started = time.monotonic()
        self._next_line = self._started + LINE_SECONDS

    def update(self, answer: Mapping[str, Any]) -> None:
        if answer.get("done"):
            return
        self._last = answer
        now = time.monotonic()
        self._rate.add(int(answer.get("bytes", 0)), now)
        if now >= self._next_line:
            self._next_line = now + LINE_SECONDS
            click.echo(f"{self._name}: {describe(answer, self._rate)}")

    def finish(self, answer: Mapping[str, Any]) -> None:
        total = {**self._last, **answer}
        size = format_size(int(total.get("bytes", 0)))
        seconds = time.monotonic() - self._started
        failed = max(len(answer.get("failed", [])), int(answer.get("failures", 0)))
        click.echo(f"{self._name}: {total.get('files', 0)} files, {size} in {seconds:.1f} s, {failed} failed")


class _Bar:
    """For people."""

    def __init__(self, name: str, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task(printable(name), total=None, detail="")
        self._rate = Rate()
        self._lines = _Lines(name)

    def update(self, answer: Mapping[str, Any]) -> None:
        if answer.get("done"):
            return
        self._lines._last = answer
        self._rate.add(int(answer.get("bytes", 0)), time.monotonic())
        total = int(answer.get("bytes_total", 0)) or None
        self._progress.update(self._task, total=total, completed=int(answer.get("bytes", 0)), detail=describe(answer, self._rate))

    def finish(self, answer: Mapping[str, Any]) -> None:
        self._progress.stop()
        self._lines.finish(answer)


@contextlib.contextmanager
def open_display(name: str, *, quiet: bool) -> Iterator[Progress]:
    """Yield the display that fits: nothing, a bar, or lines."""
    if quiet:
        yield _Silent()
    elif not sys.stdout.isatty():
        yield _Lines(name)
    else:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        with RichProgress(*columns, transient=True) as progress:
            yield _Bar(name, progress)
