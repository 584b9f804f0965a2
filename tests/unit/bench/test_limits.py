"""Every record that may be missed has its reason told."""

from __future__ import annotations

from tests.bench import limits, records


def test_a_row_that_is_missed_has_a_paragraph() -> None:
    rows: set[int | str] = {record.row for record in records.RECORDS}
    told = {row for row in rows if limits.lines([row])}
    assert told >= {5, 6, 7, 8, 10, 11, 12, 14, 15, 16, 17, 18, 19}
    sections = limits.DOCUMENT.read_text().split("\n## ")[1:]
    named = {row.strip() for section in sections for row in section.partition("\n")[0].split(",")}
    assert named <= {str(row) for row in rows}


def test_rows_of_one_section_share_its_paragraph() -> None:
    first, _ = limits.lines([7, 6])
    assert first.startswith("**6, 7.** ")
    assert limits.lines([7])[0].startswith("**7.** ")
    assert limits.lines([]) == []
