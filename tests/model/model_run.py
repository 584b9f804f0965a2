"""Runs the state machine of cache_machine.py for some seconds and tells what it did."""

from __future__ import annotations

import collections
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from fusecache.fetch import flights
from tests.model.cache_machine import CacheMachine
from tests.support.log_check import LogCheck

STEPS = 30
ROUND = 50  # runs between two looks at the clock
EXPECTED_LOGS = (
    r"block \d+ of inode \d+ is damaged or gone",
    r"answered to a reader: ",
    r"tier .*; reads go on without it",
    r"tier .*: its directory was removed",
    r"\d+ containers of the cache are gone",
)


class ModelRun(NamedTuple):
    """How many runs of the machine, and how often each step was taken in them."""

    runs: int
    steps: collections.Counter[str]


def run_model(seconds: float, expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch) -> ModelRun:
    """Raises what the machine raises at its first divergence, after Hypothesis has made it short."""
    monkeypatch.setattr(flights, "FAIL_AGAIN_SECONDS", 0.0)  # the model's hours are short
    monkeypatch.setattr(flights, "WHOLE_OBJECT_BYTES", 0)  # its files are all small: what streams, streams
    for pattern in EXPECTED_LOGS:
        expect_log(pattern, level=50, at_least=0)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fusecache-model-", dir=memory if memory.is_dir() else None) as directory:
        CacheMachine.parent = Path(directory)
        CacheMachine.steps.clear()
        runs = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            run_state_machine_as_test(CacheMachine, settings=_settings())
            runs += ROUND
    return ModelRun(runs, collections.Counter(CacheMachine.steps))


def _settings() -> settings:
    return settings(
        max_examples=ROUND,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
