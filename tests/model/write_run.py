"""Runs the state machine of write_machine.py for some seconds and tells what it did."""

from __future__ import annotations

import collections
import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.model_run import ModelRun
from tests.model.write_arena import WriteArena
from tests.model.write_machine import WriteMachine

STEPS = 40
ROUND, SHORT_ROUND = 25, 5  # runs between two looks at the clock
LONG_SECONDS = 30.0


def run_write_model(seconds: float, arena: WriteArena, *, shrink: bool = False) -> ModelRun:
    """Raises what the machine raises at its first divergence, with the history of that run. `shrink`: look for a shorter one; a
    kill does not land twice in the same place, and a divergence that comes with one cannot be made short."""
    WriteMachine.arena = arena
    WriteMachine.steps.clear()
    runs, count = 0, ROUND if seconds > LONG_SECONDS else SHORT_ROUND  # the first run of each round is the dullest
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run_state_machine_as_test(WriteMachine, settings=_settings(count, shrink))
        runs += count
    return ModelRun(runs, collections.Counter(WriteMachine.steps))


def _settings(count: int, shrink: bool) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
