"""Says what is being done and how long each step took, a line a step, on standard output."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Progress:
    """`with progress.step("wiring"):` prints a line when the step is over, and one when it failed."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        except BaseException:
            print(f"{self.seconds:6.1f} s  {name}: failed after {time.monotonic() - start:.1f} s", flush=True)
            raise
        print(f"{self.seconds:6.1f} s  {name} ({time.monotonic() - start:.1f} s)", flush=True)
