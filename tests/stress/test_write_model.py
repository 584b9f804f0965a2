"""Writes against a local file system and against the store, with kills, foreign writers and lost caches between any two steps
(figure 25w)."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model.write_arena import BucketStore, DirectoryStore, WriteArena
from tests.model.write_run import run_write_model
from tests.support.seaweed import Seaweed

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.root,
    pytest.mark.stress,
    pytest.mark.timeout(900),
]

SECONDS = 30.0  # for each kind of store


def test_what_is_written_equals_its_reference(
    full_length: bool, promise: Callable[[str, str, str, str], None], disk_path: Path, seaweed: Seaweed
) -> None:
    if not full_length:
        pytest.skip("tests/model runs it for some seconds; this is its --full-length")
    runs, kills = 0, 0
    steps: collections.Counter[str] = collections.Counter()
    for store in (DirectoryStore(disk_path / "source"), BucketStore(seaweed.endpoint_url)):
        with WriteArena(disk_path / "arena", store) as arena:
            run = run_write_model(SECONDS, arena)
            kills += arena.kills
        runs += run.runs
        steps += run.steps
    looks = steps["looked at the store"] + steps["compare the store"]
    taken = sum(steps.values()) - looks
    promise(
        "25w",
        "random writes, renames and other changes against a local file system: foreign writers, lost caches, kills, new mounts",
        f"{taken} steps in {runs} runs, {kills} daemons killed: 0 divergences; {looks} looks at the store: 0 other bytes",
        "0 divergences",
    )
    assert kills > 50
    assert taken > 2000
