"""The cache against its reference, with kills, damage and replaced objects between any two steps (figure 25)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.model.model_run import run_model
from tests.support.log_check import LogCheck

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]

SECONDS = 180.0


def test_the_cache_equals_its_reference(
    full_length: bool, promise: Callable[[str, str, str, str], None], expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not full_length:
        pytest.skip("tests/model runs it for some seconds; this is its --full-length")
    runs, steps = run_model(SECONDS, expect_log, monkeypatch)
    taken = sum(steps.values()) - steps["checks with blocks"]
    kills = steps["kill"]
    promise(
        "25",
        "random operations against a reference model: reads, listings, foreign writes and deletions, damage, eviction, kills",
        f"{taken} steps in {runs} runs, {kills} of them kills: 0 divergences",
        "0 divergences",
    )
    assert kills > 100
    assert taken > 10_000
