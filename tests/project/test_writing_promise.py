"""The promise of mounts that are written to is the same sentence wherever it stands, and its two halves have their tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISE = (
    "After `close` or `fsync` has returned 0, the bytes are in the store (`--write-mode through`, the default), or in a journal"
    " on the local disk that survives SIGKILL and power loss and is uploaded by itself (`--write-mode back`)."
)


@pytest.mark.parametrize("document", ["README.md", "docs/writing.md"])
def test_the_promise_stands_in(document: str) -> None:
    assert PROMISE in re.sub(r"\s+", " ", (ROOT / document).read_text())


@pytest.mark.parametrize("test", ["tests/stress/test_write_kills.py", "tests/stress/test_power_cut.py"])
def test_the_promise_is_tested(test: str) -> None:
    assert (ROOT / test).is_file()
