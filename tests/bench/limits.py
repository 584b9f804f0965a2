"""What keeps a record from being held, as limits.md tells it, for the rows that do not hold in a run. Stateless."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DOCUMENT = Path(__file__).with_name("limits.md")


def lines(rows: Iterable[int | str]) -> list[str]:
    """Return a paragraph for each section that is about one of these rows."""
    wanted = {str(row) for row in rows}
    found: list[str] = []
    for section in DOCUMENT.read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        of = [row.strip() for row in title.split(",")]
        if wanted.intersection(of):
            found += [f"**{', '.join(row for row in of if row in wanted)}.** {' '.join(text.split())}", ""]
    return found
