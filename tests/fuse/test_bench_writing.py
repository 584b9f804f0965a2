"""The bench's sessions of writing, with little data: everybody's bytes are compared, and each column has a figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.mount_spec import Engine
from tests.bench import columns
from tests.bench.contenders.bare_client import BareClient
from tests.bench.contenders.fusecache_mount import FusecacheMount
from tests.bench.contenders.plain_files import PlainFiles
from tests.bench.dataset import WRITES, Dataset
from tests.bench.rounds import run_rounds
from tests.bench.sessions import SessionRunner
from tests.bench.settings import Settings
from tests.support.seaweed import Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.root]

MIB = 1 << 20
COLUMNS = columns.select(["writes"])
MOST_TELLING = columns.select(["write-big", "write-readback", "write-small-back"])


@pytest.fixture
def server(disk_path: Path) -> Iterator[Seaweed]:
    with Seaweed(disk_path / "weed") as server:
        yield server


def test_each_column_has_a_figure_and_every_byte_is_there(server: Seaweed, disk_path: Path, full_length: bool) -> None:
    wanted = COLUMNS if full_length else MOST_TELLING
    settings = Settings(
        big_bytes=18 * MIB, files=40, rounds=1, contenders=(), columns=wanted, least_seconds=0.01, reader_seconds=60.0
    )
    dataset = Dataset.make(disk_path / "data", settings, [WRITES])
    ours = FusecacheMount(server, dataset, disk_path / "fusecache", Engine.NATIVE, settings.quota_bytes)
    bare, plain = BareClient(server, dataset, disk_path / "bare"), PlainFiles(dataset, None)
    for contender in (ours, bare, plain):
        contender.prepare()
    failures: list[str] = []
    runner = SessionRunner(settings, dataset, server)
    run_rounds([ours, bare, plain], runner, 1, failures)
    assert failures == []
    found = {(figure.contender, figure.column): figure.value for figure in runner.figures}
    measured = {name: {column for contender, column in found if contender == name} for name in ("fusecache", "bare", "tmpfs")}
    assert measured["fusecache"] == set(wanted)
    assert measured["bare"] == set(wanted) & {"write-big", "write-small"}
    assert measured["tmpfs"] == set(wanted) & {"write-big", "write-small", "write-readback"}
    if full_length:  # the rest is copied within the store
        assert 1 < found["fusecache", "write-middle-sent"] < settings.middle_bytes / MIB
