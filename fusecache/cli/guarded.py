"""Looks at paths that may lie on a mount whose daemon is gone, where stat(2) can wait for ever.

Owns nothing but a thread per look, abandoned when it does not come back: the end of the process takes it along, as FUSE waits are
killable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from fusecache.contract.errors import CacheError, ErrorKind

T = TypeVar("T")
LOOK_SECONDS = 3.0


def look(path: str, call: Callable[[], T], seconds: float = LOOK_SECONDS, overdue: str = "") -> T:
    """Return call(), which looks at `path`.

    Args:
        overdue: what to say if it does not return in time, where `path` is no path of this machine.
    Raises: what the call raises; CacheError(TIMEOUT) if it does not return in time.
    """
    result: list[Any] = []

    def run() -> None:
        try:
            result.append((True, call()))
        except BaseException as error:
            result.append((False, error))

    thread = threading.Thread(target=run, name="look", daemon=True)
    thread.start()
    thread.join(seconds)
    if not result:
        cure = "find it with fusecache status, and remove it with fusecache umount --lazy"
        raise CacheError(ErrorKind.TIMEOUT, overdue or f"{path} does not answer: a mount on the way to it is dead; {cure}")
    succeeded, value = result[0]
    if not succeeded:
        raise value
    return value  # type: ignore[no-any-return]
