"""The records: what fusecache has to reach, each bound beside what this run measured. Stateless.

A bound is met only by a figure of this run; where there is none, that is what is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.bench import hit_ratios, synthetic_names
from tests.bench.results import BARE, JUICEFS, OURS, RCLONE, TMPFS, Table
from tests.bench.settings import ALL_NAMES, Settings

Measure = Callable[[Table, Settings], float | None]


class Record(NamedTuple):
    """`row` numbers the table of records (W: of writing); `bound` is a least value, or a largest one if `at_most`.

    `unit` follows the number.
    """

    row: int | str
    what: str
    bound: float
    unit: str
    measure: Measure
    at_most: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    @property
    def target(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:,g} {self.unit}".strip()


class Judged(NamedTuple):
    """A record and what was measured, None if nothing was."""

    record: Record
    value: float | None

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not in this run"
        return "yes" if self.record.holds(self.value) else "no"


def judge(table: Table, settings: Settings) -> list[Judged]:
    return [Judged(record, record.measure(table, settings)) for record in RECORDS]


def _ratio(column: str, other: str) -> Measure:
    return lambda table, settings: table.ratio(column, OURS, other)


def _best_peer(column: str) -> Measure:
    """How many times as fast as the faster of the other mounts; unknown without JuiceFS, the faster one so far."""

    def measure(table: Table, settings: Settings) -> float | None:
        ratios = [table.ratio(column, OURS, peer) for peer in (JUICEFS, RCLONE)]
        return None if ratios[0] is None else min(ratio for ratio in ratios if ratio is not None)

    return measure


def _value(column: str) -> Measure:
    def measure(table: Table, settings: Settings) -> float | None:
        cell = table.cell(column, OURS)
        return None if cell is None else cell.median

    return measure


def _cpu(column: str) -> Measure:
    return lambda table, settings: table.cpu_per_gib(column, OURS, settings.big_bytes)


def _cpu_against_bare(table: Table, settings: Settings) -> float | None:
    ours, bare = (table.cpu_per_gib("big-cold", contender, settings.big_bytes) for contender in (OURS, BARE))
    return ours / bare if ours is not None and bare else None


def _serve_scaling(table: Table, settings: Settings) -> float | None:
    one, two = table.cell("serve-1", OURS), table.cell("serve-2", OURS)
    return None if one is None or two is None else two.median / one.median


def _replay_scaling(table: Table, settings: Settings) -> float | None:
    one, two = table.replayed.get(1), table.replayed.get(2)
    return None if one is None or two is None else two.rate / one.rate


def _hits(trace: str) -> Measure:
    return lambda table, settings: table.hit_ratios.get(trace, {}).get(hit_ratios.OURS)


def _behind_the_best(trace: str) -> Measure:
    def measure(table: Table, settings: Settings) -> float | None:
        found = table.hit_ratios.get(trace)
        return None if found is None else hit_ratios.best_of_others(found) - found[hit_ratios.OURS]

    return measure


def _of_all_names(measure: Measure) -> Measure:
    """Nothing, if the run had fewer names than the bound is for."""
    return lambda table, settings: measure(table, settings) if settings.names >= ALL_NAMES else None


def _memory_of_known(table: Table, settings: Settings) -> float | None:
    known = table.known
    return known.anonymous_mib if known is not None and known.names >= synthetic_names.NAMES else None


def _against(other: str, column: str) -> Measure:
    """How many times as fast as in another column."""

    def measure(table: Table, settings: Settings) -> float | None:
        first, second = table.cell(other, OURS), table.cell(column, OURS)
        return None if first is None or second is None else second.median / first.median

    return measure


TIMES_TMPFS, TIMES_BARE, TIMES_PEER = "× tmpfs", "× bare client", "× best peer"
RECORDS = (
    Record(1, "big file, cached, pages dropped", 0.9, TIMES_TMPFS, _ratio("big-cached", TMPFS)),
    Record(2, "4 files, 4 readers, cached, pages dropped", 0.9, TIMES_TMPFS, _ratio("parallel", TMPFS)),
    Record(3, "a file cached on a disk, pages dropped", 0.95, "× that disk", _ratio("disk", TMPFS)),
    Record(4, "random 128 KiB preads, cached, 1 thread", 0.6, TIMES_TMPFS, _ratio("random-1", TMPFS)),
    Record(4, "the same, 8 threads", 0.6, TIMES_TMPFS, _ratio("random-8", TMPFS)),
    Record(5, "big file, cold", 1.05, "× JuiceFS", _ratio("big-cold", JUICEFS)),
    Record(5, "the same: the aim", 0.85, TIMES_BARE, _ratio("big-cold", BARE)),
    Record(6, "small files, cold, in order, 1 reader", 0.65, TIMES_BARE, _ratio("small-cold-listed-1", BARE)),
    Record(7, "small files, cold, shuffled, 1 reader", 0.6, TIMES_BARE, _ratio("small-cold-shuffled-1", BARE)),
    Record(7, "the same, 2 readers", 0.6, TIMES_BARE, _ratio("small-cold-shuffled-2", BARE)),
    Record(8, "small files, cached, pages dropped, 1 reader", 2, TIMES_PEER, _best_peer("small-cached-1")),
    Record(8, "the same, 2 readers", 3, TIMES_PEER, _best_peer("small-cached-2")),
    Record(9, "small files, hot, 1 reader", 0.8, TIMES_TMPFS, _ratio("small-hot-1", TMPFS)),
    Record(9, "the same, 2 readers", 0.8, TIMES_TMPFS, _ratio("small-hot-2", TMPFS)),
    Record(10, "log-normal sizes, cold, shuffled, 1 reader", 0.6, TIMES_BARE, _ratio("mixed-cold-1", BARE)),
    Record(10, "the same, 2 readers", 0.6, TIMES_BARE, _ratio("mixed-cold-2", BARE)),
    Record(10, "log-normal sizes, cached, pages dropped, 1 reader", 2, TIMES_PEER, _best_peer("mixed-cached-1")),
    Record(10, "the same, 2 readers", 3, TIMES_PEER, _best_peer("mixed-cached-2")),
    Record(10, "log-normal sizes, hot, 1 reader", 0.8, TIMES_TMPFS, _ratio("mixed-hot-1", TMPFS)),
    Record(10, "the same, 2 readers", 0.8, TIMES_TMPFS, _ratio("mixed-hot-2", TMPFS)),
    Record(11, "`warm` of the big file", 0.9, "× bare client writing", _ratio("warm-big", BARE)),
    Record(11, "`warm` of the small files", 0.9, "× bare client writing", _ratio("warm-small", BARE)),
    Record(12, "1,000,000 names: first answer of `ls`", 0.2, "s", _of_all_names(_value("names-ls")), at_most=True),
    Record(12, "the same: `find`, cold", 0.8, "× bare listing", _of_all_names(_ratio("names-find", BARE))),
    Record(12, "the same: `find` again, dentries dropped", 250_000, "names/s", _of_all_names(_value("names-again"))),
    Record(
        12, "the same: first answer of `ls` after a restart", 0.5, "s", _of_all_names(_value("names-ls-restart")), at_most=True
    ),
    Record(13, "anonymous memory of fetch and serve, the small files' names known", 150, "MiB", _value("memory"), at_most=True),
    Record(13, "anonymous memory, 1,000,000 names known", 150, "MiB", _of_all_names(_value("names-memory")), at_most=True),
    Record(13, "anonymous memory, 10,000,000 names known (a synthetic store)", 160, "MiB", _memory_of_known, at_most=True),
    Record(14, "mount to first byte, cold", 0.7, "s", _value("first-byte-cold"), at_most=True),
    Record(14, "mount to first byte, on a warm cache", 0.3, "s", _value("first-byte-warm"), at_most=True),
    Record(15, "CPU of the daemons, cold", 1.2, "× bare client's", _cpu_against_bare, at_most=True),
    Record(15, "CPU of the daemons for a GiB, cached, checked", 0.5, "s", _cpu("checked"), at_most=True),
    Record(15, "CPU of the daemons for a GiB, passthrough", 0.05, "s", _cpu("big-cached"), at_most=True),
    Record(16, "2 serve processes, 2 readers", 1.8, "× 1 serve process", _serve_scaling),
    Record(16, "the same requests replayed, without kernel and readers", 1.8, "× 1 serve process", _replay_scaling),
    Record(17, "hit ratio, shuffled epochs over twice the cache", 0.45, "", _hits("epochs")),
    Record(17, "hit ratio, Zipf 0.9 with a scan: behind the best policy", 0.03, "", _behind_the_best("zipf"), at_most=True),
    Record(17, "hit ratio, hot set with a scan", 0.95, "of the hot set", _hits("hot")),
    Record(
        18, "a store behind 20 ms and 200 MB/s: a copy cached, pages dropped", 100, "× cold", _against("link-cold", "link-cached")
    ),
    Record(18, "the same: the copy hot", 100, "× cold", _against("link-cold", "link-hot")),
    Record(18, "the same: the copy cold", 0.9, "× the link (bare client)", _ratio("link-cold", BARE)),
    Record(19, "foreign readers, cached: safetensors", 0.8, TIMES_TMPFS, _ratio("foreign-model", TMPFS)),
    Record(19, "foreign readers, cached: data loader", 0.8, TIMES_TMPFS, _ratio("foreign-loader", TMPFS)),
    Record(19, "foreign readers, cached: pyarrow", 0.8, TIMES_TMPFS, _ratio("foreign-parquet", TMPFS)),
    Record(19, "foreign readers, cached: tar", 0.8, TIMES_TMPFS, _ratio("foreign-tar", TMPFS)),
    Record(19, "foreign readers, cached: grep -r", 0.8, TIMES_TMPFS, _ratio("foreign-grep", TMPFS)),
    Record(19, "foreign readers, cached: SQLite", 0.8, TIMES_TMPFS, _ratio("foreign-sqlite", TMPFS)),
    Record("W1", "big file, written and closed", 0.8, TIMES_BARE, _ratio("write-big", BARE)),
    Record("W1", "the same", 1, TIMES_PEER, _best_peer("write-big")),
    Record("W2", "files of 40 KiB, written and closed by 4 writers", 1, TIMES_PEER, _best_peer("write-small")),
    Record("W2", "the same, brought to the store later", 1, TIMES_PEER, _best_peer("write-small-back")),
    Record("W2", "the same", 5, "× at once", _against("write-small", "write-small-back")),
    Record(
        "W3",
        "1 MiB into the middle of an object: sent to the store",
        32,
        "MiB",
        _value("write-middle-sent"),
        at_most=True,
    ),
    Record(
        "W4", "read back what was written, pages dropped", 0.8, "× big file, cached", _against("big-cached", "write-readback")
    ),
    Record("W4", "the same", 0.8, "× big file, cached, checked", _against("checked", "write-readback")),
)
