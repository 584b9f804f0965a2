"""Whose turn it is to read requests: of the threads of one process, one at a time.

Two threads that answer at once fight for the interpreter, which costs them a quarter of their time. Small files a second with
two readers, cached, pages dropped, medians of 6 in turn: one process of two threads 9,250, one of one thread 11,250, two of one
thread 10,200 (looking for requests instead of sleeping) or 14,750 (sleeping at once). So processes answer in parallel, and more
threads are for what has to wait: whoever is about to wait gives the turn away.
"""

from __future__ import annotations

import threading


class Turn:
    """Invariant: at most one thread has it. A thread that has it may ask for it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0

    def take(self) -> None:
        """Return when it is this thread's turn."""
        me = threading.get_ident()
        if self._holder != me:
            self._lock.acquire()
            self._holder = me

    def give(self) -> None:
        """Let another thread go on, if it is this one's turn."""
        if self._holder == threading.get_ident():
            self._holder = 0
            self._lock.release()
