"""Runs the state machine of cache_machine.py: some seconds by default, FUSECACHE_MODEL_SECONDS for longer."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from fusecache.fetch import flights
from tests.model.cache_machine import CacheMachine
from tests.support.log_check import LogCheck

SECONDS = float(os.environ.get("FUSECACHE_MODEL_SECONDS", "12"))
STEPS = 30
ROUND = 50  # runs between two looks at the clock

EXPECTED_LOGS = (
    r"block \d+ of inode \d+ is damaged or gone",
    r"answered to a reader: ",
    r"tier .*; reads go on without it",
)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_bytes_names_and_accounting_equal_the_reference(expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "FAIL_AGAIN_SECONDS", 0.0)  # the model's hours are short
    monkeypatch.setattr(flights, "WHOLE_OBJECT_BYTES", 0)  # its files are all small: what streams, streams
    for pattern in EXPECTED_LOGS:
        expect_log(pattern, level=50, at_least=0)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fusecache-model-", dir=memory if memory.is_dir() else None) as directory:
        CacheMachine.parent = Path(directory)
        CacheMachine.steps.clear()
        runs = 0
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            run_state_machine_as_test(CacheMachine, settings=_settings())
            runs += ROUND
    steps = CacheMachine.steps
    print(f"model: {sum(steps.values())} steps in {runs} runs, 0 divergences; {dict(sorted(steps.items()))}")
    assert all(steps[what] for what in ("read", "damage", "restart", "evict", "checks with blocks")), "the model proved nothing"


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
