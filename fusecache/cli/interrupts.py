"""Ctrl-C, SIGTERM and a closed terminal end a command once, in order: cleaning up is not interrupted by the second Ctrl-C.

State: the signal handlers of the process, while `interruptible` is entered. Main thread only.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The first signal raises KeyboardInterrupt, now or at the end of `deferred`; later ones do nothing.

    Whoever cleans up calls `finish` first: from then on a signal is only noted, for `check`.
    """

    def __init__(self) -> None:
        self._is_deferred = False
        self._came = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came: its first exception may have been lost in a finaliser or a callback."""
        if self._came:
            raise KeyboardInterrupt

    def finish(self) -> None:
        """Raise nothing any more: what follows is cleaning up."""
        self._is_deferred = True

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Keep a signal until the end of the block, in which something is made and written down."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            return
        self._came = True
        if not self._is_deferred:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Install the handlers, and put the old ones back."""
    interrupts = Interrupts()
    before = {number: signal.signal(number, interrupts._handle) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
