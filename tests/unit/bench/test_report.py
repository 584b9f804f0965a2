"""What is said of a run that measured a part."""

from __future__ import annotations

from tests.bench import report
from tests.bench.figures import Figure
from tests.bench.results import Table
from tests.bench.settings import Settings

SETTINGS = Settings(big_bytes=2 << 30, files=10, rounds=1, contenders=(), columns=())


def run(*figures: Figure) -> report.Run:
    return report.Run(SETTINGS, Table(figures), (), (), {}, (), (), 1.0)


def test_records_without_a_figure_are_not_spoken_of() -> None:
    rates = {"fusecache": 90.0, "tmpfs": 100.0}
    said = report.record_lines(run(*(Figure(name, "parallel", 0, rate, 1.0) for name, rate in rates.items())))
    assert said == ["record 2, 4 files, 4 readers, cached, pages dropped: 0.9, bound ≥ 0.9 × tmpfs: holds"]
    assert report.record_lines(run()) == []
