"""The fixture `promise`, for tests that show one: what they counted is kept where FUSECACHE_PROMISES says, if it says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import promises


@pytest.fixture
def promise() -> Callable[[str, str, str, str], None]:
    """`promise(figure, what, counted, promise)`: print and keep what a scenario counted."""

    def keep(figure: str, what: str, counted: str, text: str) -> None:
        print(f"\nfigure {figure}: {what}: {counted}")
        if records := os.environ.get("FUSECACHE_PROMISES"):
            promises.record(Path(records), promises.Promise(figure, what, counted, text))

    return keep
