"""The cache against its reference: some seconds by default, FUSECACHE_MODEL_SECONDS for longer."""

from __future__ import annotations

import os

import pytest

from tests.model.model_run import run_model
from tests.support.log_check import LogCheck

SECONDS = float(os.environ.get("FUSECACHE_MODEL_SECONDS", "8"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_bytes_names_and_accounting_equal_the_reference(expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, steps = run_model(SECONDS, expect_log, monkeypatch)
    print(f"model: {sum(steps.values())} steps in {runs} runs, 0 divergences; {dict(sorted(steps.items()))}")
    assert all(steps[what] for what in ("read", "damage", "restart", "kill", "another source", "evict", "checks with blocks")), (
        "the model proved nothing"
    )
