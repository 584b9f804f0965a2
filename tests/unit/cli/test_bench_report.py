"""The table, the JSON and the picture of a bench."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fusecache.cli.bench_reading import FILES_S, MB_S, Result
from fusecache.cli.bench_report import Bench, as_json, print_table, write_svg

BENCH = Bench(
    "s3://bucket/<a&b>\x1b[2J",
    "mounted before",
    [
        Result("sequential-first", "one file, cold", "sequential", MB_S, 10_000_000, 1.0, 1),
        Result("sequential-hot", "one file, hot", "sequential", MB_S, 80_000_000, 2.0, 4),
        Result("small-first", "small files, cold", "small files", FILES_S, 500, 2.0, 1),
    ],
    ["a note"],
)


def test_rates_are_those_of_the_unit() -> None:
    record = json.loads(as_json(BENCH))
    assert [result["rate"] for result in record["results"]] == [10.0, 40.0, 250.0]
    assert record["notes"] == ["a note"]


def test_the_table_has_a_row_for_each_result(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(BENCH)
    text = capsys.readouterr().out
    assert all(result.title in text for result in BENCH.results)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_picture_is_svg_with_the_longest_bar_for_the_fastest(tmp_path: Path) -> None:
    write_svg(BENCH, str(tmp_path / "plot.svg"))
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()
    bars = [float(one.attrib["width"]) for one in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert bars == [90.0, 360.0, 360.0]
