"""The record of a cluster: what it holds is read back, and a directory of somebody else is left alone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.cluster_harness.addresses import Addresses
from tests.cluster_harness.record import ClusterRecord, NotOursError, lock


def test_is_read_back(tmp_path: Path) -> None:
    assert ClusterRecord.load(tmp_path) is None
    record = ClusterRecord.new(Addresses(212))
    record.store(tmp_path)
    assert ClusterRecord.load(tmp_path) == record
    assert record.boxes == ["control-plane", "node-1", "node-2", "node-3"]
    assert len(record.interface) <= 15, "the kernel's limit"


@pytest.mark.parametrize("create", [True, False])
def test_a_directory_of_somebody_else_is_not_taken(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(NotOursError), lock(tmp_path, create=create):
        pass
    assert os.listdir(tmp_path) == ["file"]


def test_a_directory_that_is_not_there_is_not_made_for_a_removal(tmp_path: Path) -> None:
    with lock(tmp_path / "cluster", create=False) as is_there:
        assert not is_there
    assert not (tmp_path / "cluster").exists()


def test_who_waited_for_a_removal_gets_the_directory_that_came_after_it(tmp_path: Path) -> None:
    directory = tmp_path / "cluster"
    entered = threading.Event()
    second: list[bool] = []

    def boot_after() -> None:
        entered.set()
        with lock(directory, create=True) as is_there:
            ClusterRecord.new(Addresses(216)).store(directory)
            second.append(is_there)

    with lock(directory, create=True):
        thread = threading.Thread(target=boot_after)
        thread.start()
        entered.wait()
        directory.rmdir()
    thread.join()
    record = ClusterRecord.load(directory)
    assert record is not None
    assert (record.block, second) == (216, [True])
