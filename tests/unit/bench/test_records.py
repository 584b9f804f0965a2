"""What holds, what does not, what was not measured."""

from __future__ import annotations

import dataclasses

from tests.bench import records
from tests.bench.figures import Figure
from tests.bench.results import Table
from tests.bench.settings import Settings

SETTINGS = Settings(big_bytes=2 << 30, files=10, rounds=1, contenders=(), columns=())


def verdicts(*figures: Figure) -> dict[tuple[str, str], str]:
    return {(one.record.what, one.record.unit): one.verdict for one in records.judge(Table(figures), SETTINGS)}


def test_a_record_holds_by_the_figures_of_the_run_only() -> None:
    found = verdicts(Figure("fusecache", "big-cached", 0, 80.0, 1.0), Figure("tmpfs", "big-cached", 0, 100.0, 1.0))
    assert found["big file, cached, pages dropped", "× tmpfs"] == "no"
    assert found["random 128 KiB preads, cached, 1 thread", "× tmpfs"] == "not in this run"


def test_small_bounds_are_kept_from_above() -> None:
    found = verdicts(Figure("fusecache", "first-byte-cold", 0, 0.6, 0.6), Figure("fusecache", "first-byte-warm", 0, 0.4, 0.4))
    assert found["mount to first byte, cold", "s"] == "yes"
    assert found["mount to first byte, on a warm cache", "s"] == "no"


def test_cpu_is_compared_with_the_bare_client() -> None:
    ours = Figure("fusecache", "big-cold", 0, 1.0, 1.0, contender_cpu=3.0)
    bare = Figure("bare", "big-cold", 0, 1.0, 1.0, reader_cpu=2.0)
    judged = {one.record.unit: one.value for one in records.judge(Table([ours, bare]), SETTINGS)}
    assert judged["× bare client's"] == 1.5


def test_a_copy_behind_a_link_is_compared_with_itself_cold_and_with_the_link() -> None:
    rates = {("fusecache", "link-cold"): 150.0, ("fusecache", "link-hot"): 4500.0, ("bare", "link-cold"): 200.0}
    table = Table([Figure(contender, column, 0, rate, 1.0) for (contender, column), rate in rates.items()])
    values = {one.record.what: one.value for one in records.judge(table, SETTINGS) if one.record.row == 18}
    assert list(values.values()) == [None, 30.0, 0.75]


def test_the_best_peer_is_the_fastest_of_the_other_mounts() -> None:
    rates = {"fusecache": 40.0, "juicefs": 10.0, "rclone": 20.0}
    table = Table([Figure(name, "small-cached-1", 0, rate, 1.0) for name, rate in rates.items()])
    values = {one.record.what: one.value for one in records.judge(table, SETTINGS)}
    assert values["small files, cached, pages dropped, 1 reader"] == 2.0


def test_bounds_for_a_million_names_are_not_judged_by_fewer() -> None:
    figures = [Figure("fusecache", "names-ls", 0, 0.1, 0.1)]
    few = records.judge(Table(figures), dataclasses.replace(SETTINGS, names=1000))
    all_of_them = records.judge(Table(figures), SETTINGS)
    what = "1,000,000 names: first answer of `ls`"
    assert [one.verdict for one in few if one.record.what == what] == ["not in this run"]
    assert [one.verdict for one in all_of_them if one.record.what == what] == ["yes"]
