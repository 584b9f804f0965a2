"""What is applied again, and when: at rest the API server hears as little of many Datasets as of a few."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from csi.operator.app.applied import AGAIN_SECONDS, EACH_SECONDS, Applied

RAWS = [{"kind": "ConfigMap", "metadata": {"name": "a"}}]


class Recorder:
    """Counts; the API server's part is tested in tests/cluster."""

    def __init__(self) -> None:
        self.count = 0

    async def apply(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        self.count += 1
        return {"metadata": {"resourceVersion": "1"}}


def test_many_datasets_are_applied_again_one_after_the_other() -> None:
    """All 500 were applied again ten minutes after they were made: hundreds of calls a minute at rest."""
    clock = [1000.0]
    recorder = Recorder()
    one = Applied(recorder, lambda: clock[0])  # type: ignore[arg-type]
    keys = [("lab", f"demo-{number}") for number in range(100)]

    def look_at_all() -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []

        async def look() -> None:
            for key in keys:
                before = recorder.count
                await one.apply(key, RAWS)
                seen.extend([key] * (recorder.count - before))

        asyncio.run(look())
        clock[0] += 15.0
        return seen

    assert look_at_all() == keys
    assert len(keys) * EACH_SECONDS > AGAIN_SECONDS
    for _ in range(int(len(keys) * EACH_SECONDS / 15) - 1):
        assert look_at_all() == []
    rounds = [look_at_all() for _ in range(2 * len(keys))]
    again = [key for round_ in rounds for key in round_]
    assert max(map(len, rounds)) == 1
    assert sorted(again) == sorted(keys), "each once, as they are due every 15 s, and one is applied every 30 s"
    assert len(again) == len(rounds) * 15 / EACH_SECONDS
    changed = [{"kind": "ConfigMap", "metadata": {"name": "b"}}]
    assert one.needs(keys[0], changed)
