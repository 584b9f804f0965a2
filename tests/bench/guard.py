"""The regression guard: ratios of a short run against those that were recorded with the same sizes.

Owns the format of `recorded.json`: {"date", "kernel", "big_bytes", "files", "ratios": {"COLUMN / REFERENCE": number}}.
Ratios only, because they survive a change of machine better than figures do; from a short run only, because a ratio changes with
the sizes. Written at the end of a full `make bench`, read by `make bench-quick`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fusecache.base.units import MIB
from tests.bench.results import BARE, OURS, TMPFS, Table
from tests.bench.settings import Settings

RECORDED = Path(__file__).with_name("recorded.json")
FALL = 0.2  # of a ratio that is worth a word; on a quiet machine they wander by a tenth
REFERENCES = (
    BARE,
    TMPFS,
)  # what has both is compared with the first; both are quick to measure, and nobody's release changes them
COLUMNS = (
    *("big-cold", "big-cached", "big-hot", "random-1", "checked", "warm-big"),
    *("small-cold-shuffled-1", "small-cached-1", "small-hot-1", "small-cached-2", "warm-small"),
    *("find-mounted", "find-again"),
)


class Fall(NamedTuple):
    ratio: str
    recorded: float
    now: float

    @property
    def column(self) -> str:
        return self.ratio.partition(" / ")[0]


def guard_settings(settings: Settings) -> Settings:
    """Return the settings of a short run in the place of `settings`."""
    return dataclasses.replace(
        settings,
        big_bytes=512 * MIB,
        files=2000,
        rounds=3,
        contenders=(OURS, BARE, TMPFS),
        columns=COLUMNS,
        least_seconds=0.3,
        output=None,
        raw=None,
    )


def ratios(table: Table) -> dict[str, float]:
    found = {}
    for column in table.columns:
        known = {other: table.ratio(column, OURS, other) for other in REFERENCES}
        for other, ratio in known.items():
            if ratio is not None:
                found[f"{column} / {other}"] = round(ratio, 3)
                break
    return found


def falls(recorded: Mapping[str, float], now: Mapping[str, float]) -> list[Fall]:
    """Return the ratios that are more than `FALL` below the recorded ones."""
    both = [Fall(name, before, now[name]) for name, before in recorded.items() if name in now]
    return [one for one in both if one.now < one.recorded * (1 - FALL)]


def merged(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Return the better of two measurements: noise makes a ratio fall, it does not make it rise for long."""
    return {name: max(ratio, second.get(name, ratio)) for name, ratio in first.items()}


def write(path: Path, settings: Settings, found: Mapping[str, float]) -> None:
    record = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "kernel": platform.release(),
        "big_bytes": settings.big_bytes,
        "files": settings.files,
        "ratios": dict(found),
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


def read(path: Path, settings: Settings) -> dict[str, float]:
    """Return the recorded ratios. Raises: ValueError if there are none, or none for these sizes."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path.name} is not there; make bench, or make bench-quick ARGS=--record, writes it") from None
    if (record["big_bytes"], record["files"]) != (settings.big_bytes, settings.files):
        raise ValueError(f"{path.name} holds ratios of other sizes; write it anew with make bench-quick ARGS=--record")
    return dict(record["ratios"])


def lines(recorded: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """Return what is printed: every ratio, and then what fell."""
    width = max(map(len, [*recorded, *now]), default=0)
    table = [
        f"{name:<{width}}  {recorded[name]:8.2f} {now[name]:8.2f}  {now[name] / recorded[name]:5.2f}"
        if name in recorded and name in now
        else f"{name:<{width}}  {'only now' if name in now else 'not measured now'}"
        for name in [*recorded, *(name for name in now if name not in recorded)]
    ]
    fallen = falls(recorded, now)
    said = [f"fell by {1 - one.now / one.recorded:.0%}: {one.ratio} ({one.recorded:.2f}, now {one.now:.2f})" for one in fallen]
    return [f"{'':<{width}}  recorded      now  ratio", *table, *(said or [f"nothing fell by more than {FALL:.0%}"])]
