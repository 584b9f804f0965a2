"""A mount that may be written against a local file system: some seconds by default, FUSECACHE_MODEL_SECONDS for longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.model.write_arena import BucketStore, DirectoryStore, WriteArena
from tests.model.write_run import run_write_model
from tests.support.seaweed import Seaweed

SECONDS = float(os.environ.get("FUSECACHE_MODEL_SECONDS", "5"))

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(SECONDS * 2 + 240)]


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_names_bytes_attributes_and_errors_equal_those_of_a_file_system(kind: str, disk_path: Path, seaweed: Seaweed) -> None:
    store = BucketStore(seaweed.endpoint_url) if kind == "s3" else DirectoryStore(disk_path / "source")
    with WriteArena(disk_path / "arena", store) as arena:
        runs, steps = run_write_model(SECONDS, arena)
    print(f"model of writes: {sum(steps.values())} steps in {runs} runs, 0 divergences; {dict(sorted(steps.items()))}")
    assert steps["looked at the store"], "the model proved nothing"
    assert steps["compare the store"] >= runs
