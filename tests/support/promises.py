"""The figures behind the promises: each scenario records counts with denominators, here they become docs/promises.md.

`python -m tests.support.promises RECORDS` writes it, from what several runs of pytest have recorded in one file; with another
argument, `cluster`, docs/promises-cluster.md, of what happens in a Kubernetes.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

DOCUMENTS = Path(__file__).parents[2] / "docs"
ALONE = """# Promises

What must never happen, and what a run of `make promises` counted on {machine}, {date}. Every scenario fails
itself when it proved nothing: no kill landed, no block was damaged, no fault fired. `make test` runs the same
scenarios for a few seconds each.
"""
IN_CLUSTER = """# Promises in a cluster

What was counted in a Kubernetes of three nodes, all on one machine of {machine}, until {date}. `make promises-cluster` runs
every scenario at full length and writes this; `make test-cluster` runs the same ones, some of them smaller. A row says how
much it was.
"""
TABLE = """
| figure | what happens | what was counted | promise |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Promise:
    """One line. `figure`: its number, with a letter for variants; `counted`: counts with denominators."""

    figure: str
    what: str
    counted: str
    promise: str


def record(path: Path, promise: Promise) -> None:
    with path.open("a") as file:
        file.write(json.dumps(asdict(promise)) + "\n")


def render(records: Path, machine: str, date: str, header: str = ALONE) -> str:
    """Return the document; the last record of each figure wins."""
    promises: dict[str, Promise] = {}
    for line in records.read_text().splitlines():
        promise = Promise(**json.loads(line))
        promises[promise.figure] = promise
    rows = sorted(promises.values(), key=lambda promise: (_number(promise.figure), promise.figure))
    table = "".join(
        f"| {_cell(one.figure)} | {_cell(one.what)} | {_cell(one.counted)} | {_cell(one.promise)} |\n" for one in rows
    )
    return header.format(machine=machine, date=date) + TABLE + table


def main() -> None:
    machine = f"{os.cpu_count()} cores, kernel {platform.release()}"
    in_cluster = sys.argv[2:] == ["cluster"]
    document = DOCUMENTS / ("promises-cluster.md" if in_cluster else "promises.md")
    header = IN_CLUSTER if in_cluster else ALONE
    document.write_text(render(Path(sys.argv[1]), machine, datetime.date.today().isoformat(), header))


def _number(figure: str) -> int:
    """The number a figure begins with: "10b, 11b" belongs to 10."""
    digits = re.match(r"\d*", figure)
    assert digits is not None
    return int(digits[0] or 0)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
