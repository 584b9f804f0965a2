"""A writable index in a temporary directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.index.index import Index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Shared by the tests of a module: each uses keys of its own, or removes what it wrote."""
    made = Index(tmp_path_factory.mktemp("index"), writable=True)
    yield made
    made.close()


@pytest.fixture
def empty_index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path / "index", writable=True)
    yield made
    made.close()
