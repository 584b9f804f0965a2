"""What `fusecache bench` shows: a table, JSON, or a plot as SVG that asks nobody for fonts.

Stateless.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from fusecache.base.units import format_size
from fusecache.cli.bench_reading import MB_S, Result
from fusecache.cli.text import printable

WIDTH = 80  # where nobody says how wide the output is


class Bench(NamedTuple):
    """`target` as the user named it; `how` says what it was mounted with, or that it was mounted already."""

    target: str
    how: str
    results: Sequence[Result]
    notes: Sequence[str]


def print_table(bench: Bench) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="fusecache bench", title_justify="left", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("what was read", no_wrap=True)
    for name in ("how much", "seconds", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for _, group in itertools.groupby(bench.results, lambda result: result.group):
        for result in group:
            table.add_row(result.title, _amount(result), f"{result.seconds:.2f}", f"{_rate(result)} {result.unit}")
        table.add_section()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    for line in (f"{printable(bench.target)}: {printable(bench.how)}", *bench.notes):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def as_json(bench: Bench) -> str:
    results = [{**result._asdict(), "rate": round(result.rate, 2)} for result in bench.results]
    record = {"target": bench.target, "how": bench.how, "results": results, "notes": list(bench.notes)}
    return json.dumps(record, indent=2)


LEFT, BAR, RIGHT, LINE, TOP = 270, 360, 130, 22, 56  # pixels of the plot: titles, the longest bar, rates, a row, the head
COLOUR = "#3b76af"


def write_svg(bench: Bench, path: str) -> None:
    """Write bars, each beside the largest of its group and unit. Raises: OSError."""
    largest: dict[tuple[str, str], float] = {}
    for result in bench.results:
        key = (result.group, result.unit)
        largest[key] = max(largest.get(key, 0.0), result.rate)
    rows = []
    y = TOP
    for group, results in itertools.groupby(bench.results, lambda result: result.group):
        rows.append(f'<text x="16" y="{y + 15}" font-weight="bold">{escape(group)}</text>')
        y += LINE
        for result in results:
            width = max(1.0, BAR * result.rate / (largest[result.group, result.unit] or 1.0))
            rows += [
                f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(result.title)}</text>',
                f'<rect x="{LEFT}" y="{y + 3}" width="{width:.1f}" height="{LINE - 6}" fill="{COLOUR}"/>',
                f'<text x="{LEFT + width + 6:.1f}" y="{y + 15}">{_rate(result)} {result.unit}</text>',
            ]
            y += LINE
        y += LINE // 2
    across, down = LEFT + BAR + RIGHT, y + 8
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{across}" height="{down}" viewBox="0 0 {across} {down}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{across}" height="{down}" fill="white"/>',
        f'<text x="16" y="24" font-size="16">fusecache bench: {escape(printable(bench.target))}</text>',
        f'<text x="16" y="42" fill="#666">{escape(printable(bench.how))}</text>',
    ]
    Path(path).write_text("\n".join([*head, *rows, "</svg>"]) + "\n", encoding="utf-8")


def _amount(result: Result) -> str:
    return format_size(result.amount) if result.unit == MB_S else f"{result.amount:,} {result.unit.partition('/')[0]}"


def _rate(result: Result) -> str:
    return f"{result.rate:,.0f}" if result.rate >= 10 else f"{result.rate:.1f}"
