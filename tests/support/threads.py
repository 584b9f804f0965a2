"""Work that several threads do at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial


def at_once(*works: Callable[[], object]) -> None:
    """Run each in a thread of its own; raise what one of them raised."""
    problems: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def together(count: int, work: Callable[[int], object]) -> None:
    """Run `work(number)` in so many threads."""
    at_once(*(partial(work, number) for number in range(count)))
