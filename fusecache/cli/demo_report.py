"""The table that ends the demo.

State: its rows, collected while the demo runs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

from fusecache.cli.demo_reading import Pass

WIDTH = 80  # where nobody says how wide the output is


class Row(NamedTuple):
    what: str
    files: int
    size: int
    seconds: float
    note: str = ""


class Report:
    """Rows in the order they happened, and the errors of all passes."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self.errors: list[str] = []
        self.facts: list[tuple[str, str]] = []

    def add(self, what: str, result: Pass, note: str = "") -> None:
        self.errors += result.errors
        self._rows.append(Row(what, result.files, result.size, result.seconds, note))

    def print(self, picture: str = "") -> None:
        """Print the table. `picture`: a file that gets what was printed, as SVG; "" for none. Raises OSError."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, title="fusecache demo", title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("what happened", no_wrap=True)
        for name in ("seconds", "MB/s", "files/s"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in self._rows:
            seconds = max(row.seconds, 1e-9)
            speed = f"{row.size / seconds / 1e6:,.0f}"
            table.add_row(row.what, f"{row.seconds:.2f}", speed, f"{row.files / seconds:,.0f}", row.note)
        console = Console(width=None if sys.stdout.isatty() and not picture else WIDTH, record=bool(picture))
        console.print(table)
        for name, value in (*self.facts, ("errors", str(len(self.errors)))):
            console.print(f"  {name}: {value}", highlight=False, markup=False)
        for error in self.errors[:20]:
            console.print(f"  {error}", style="red", highlight=False, markup=False)
        if picture:
            # Without the fonts that it would load from elsewhere: a picture asks nobody for anything.
            drawn = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="make demo"), flags=re.DOTALL)
            Path(picture).write_text(drawn, encoding="utf-8")
