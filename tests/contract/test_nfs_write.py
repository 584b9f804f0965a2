"""The writer of NFS exports, before a real nfs-ganesha."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.source.registry import open_source
from tests.contract.directory_world import directory_world
from tests.contract.source_suite import SourceWorld
from tests.contract.test_source_nfs import missing_nfs
from tests.contract.writer_suite import WriterSuite
from tests.support.ganesha import Ganesha, ganesha

pytestmark = pytest.mark.skipif(missing_nfs() is not None, reason=str(missing_nfs()))


@pytest.fixture(scope="module")
def root(run_directory: Path) -> Path:
    path = run_directory / "nfs-write" / "root"
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Ganesha]:
    with ganesha(root, access="RW") as server:
        yield server


class TestNfsWriter(WriterSuite):
    @pytest.fixture
    def world(self, root: Path, server: Ganesha) -> SourceWorld:
        return directory_world(root, lambda: open_source(server.url, {"vers": "4"}, {}))
