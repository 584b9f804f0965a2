"""Tests of what must be freed at once, by counting references alone."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Collect what there is; then no cycle is freed until the end."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
