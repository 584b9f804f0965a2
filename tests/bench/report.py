"""Writes the results: a table for the terminal, docs/benchmarks.md, all figures as JSON. Stateless."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from fusecache.base.units import MIB, format_size
from tests.bench import hit_ratios, limits, records, replay, synthetic_names
from tests.bench.columns import BY_NAME, SECONDS, Job
from tests.bench.dataset import MIXED_LARGE, MIXED_MEDIAN_BYTES
from tests.bench.figures import Figure
from tests.bench.foreign.orders import LOADER_BATCH, LOADER_PROCESSES, LOOKED_UP
from tests.bench.link.link import BYTES_PER_SECOND, QUEUE_BYTES, ROUND_TRIP_SECONDS
from tests.bench.results import BARE, JUICEFS, OURS, TMPFS, Table
from tests.bench.sessions import FILES_TO_RESTART_ON
from tests.bench.settings import NAMES_PER_DIRECTORY, PARALLEL_FILES, SMALL_BYTES, WRITTEN_SMALL_BYTES, Settings

WIDTH = 200  # of a table that goes to a file
REFERENCES = ((JUICEFS, "/ JuiceFS"), (BARE, "/ bare client"), (TMPFS, "/ tmpfs"))


class Participant(NamedTuple):
    name: str
    title: str
    version: str
    options: str


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Everything a document says about one run."""

    settings: Settings
    table: Table
    participants: Sequence[Participant]
    machine: Sequence[tuple[str, str]]
    absent: Mapping[str, str]
    failures: Sequence[str]
    disturbed: Sequence[str]
    minutes: float


def print_table(run: Run) -> None:
    table = RichTable(title="median of each column; ratios are fusecache's")
    table.add_column("")
    for participant in run.participants:
        table.add_column(participant.name, justify="right")
    for _, title in REFERENCES:
        table.add_column(title, justify="right")
    for column in run.table.columns:
        table.add_row(f"{column} {BY_NAME[column].unit}", *_values(run, column), *_ratios(run.table, column))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)
    for column, ratio in run.table.below_juicefs():
        spread = "" if run.table.is_apart(column) else ", less than the spread"
        print(f"below JuiceFS: {BY_NAME[column].title} ({ratio:.2f}{spread})")
    for row in replay.lines(list(run.table.replayed.values())):
        print("  ".join(row))
    for row in synthetic_names.lines(run.table.known):
        print("  ".join(row))
    if run.table.hit_ratios:
        for row in hit_ratios.lines(run.table.hit_ratios):
            print("  ".join(f"{cell:>10}" for cell in row[1:]), row[0])
    for line in record_lines(run):
        print(line)
    for failure in run.failures:
        print(f"failed: {failure}")


def record_lines(run: Run) -> list[str]:
    """Return a line for each record that this run has a figure for, whatever was left out of it."""
    judged = [one for one in records.judge(run.table, run.settings) if one.value is not None]
    return [
        f"record {one.record.row}, {one.record.what}: {_measured(one)}, bound {one.record.target}: "
        f"{'holds' if one.verdict == 'yes' else 'does not hold'}"
        for one in judged
    ]


def write_raw(path: Path, figures: Sequence[Figure]) -> None:
    path.write_text(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=1) + "\n")


def write_document(path: Path, run: Run) -> None:
    path.write_text("\n".join(document_lines(run)) + "\n")


def document_lines(run: Run) -> list[str]:
    titles = [participant.title for participant in run.participants]
    lines = ["# Benchmarks", "", _introduction(run.settings), ""]
    lines += ["Written by `make bench`. " + "; ".join(f"{name}: {value}" for name, value in run.machine) + ".", ""]
    lines += ["## Records", "", *_records(run), ""]
    missed = [one.record.row for one in records.judge(run.table, run.settings) if one.verdict == "no"]
    if missed:
        lines += ["## What is not held, and why", "", *limits.lines(missed)]
    lines += [
        "## Speed",
        "",
        "Medians. The ratios on the right are those of fusecache (native): above 1 it is the better one.",
        "",
    ]
    lines += _markdown_row(["", "unit", *titles, *(title for _, title in REFERENCES)])
    lines += _markdown_row(["---", "---", *["---:"] * (len(titles) + len(REFERENCES))])
    for column in run.table.columns:
        cells = [BY_NAME[column].title, BY_NAME[column].unit, *_values(run, column), *_ratios(run.table, column)]
        lines += _markdown_row(cells)
    lines += ["", *_judgement(run), "", "## Spread", "", *_spread(run), "", "## Where the time goes", "", *_costs(run), ""]
    lines += [
        *_hit_ratios(run),
        *_replayed(run),
        *_known(run),
        "## Contenders",
        "",
        *_contenders(run),
        "",
        "## How it is measured",
        "",
        *_method(run),
        "",
        *_remarks(run),
    ]
    return lines


def _introduction(settings: Settings) -> str:
    big, small = format_size(settings.big_bytes), f"{settings.files:,} files of {SMALL_BYTES >> 10} KiB"
    return (
        "One run, one S3 server (SeaweedFS on loopback), the same bytes and the same readers for everybody: one file of"
        f" {big}, {PARALLEL_FILES} files that are as much together, {small}, and {settings.mixed_files:,} of log-normal sizes"
        f" (median {MIXED_MEDIAN_BYTES >> 10} KiB, 99th percentile 512 KiB, one in {MIXED_LARGE:,} of several MiB), all in random"
        f" bytes. Every figure is the median of {settings.rounds}, less those that are named as left out; rclone and the pyfuse3"
        " engine are measured once."
    )


def _records(run: Run) -> list[str]:
    lines = [
        "What fusecache (native) has to reach, and what this run measured. Where it says no, that is how far it got; what",
        "`make bench` does not measure yet, or was left out of this run, is named as such.",
        "",
        *_markdown_row(["#", "what", "bound", "measured", "holds"]),
        *_markdown_row(["---:", "---", "---:", "---:", "---"]),
    ]
    judged = records.judge(run.table, run.settings)
    for one in judged:
        lines += _markdown_row([str(one.record.row), one.record.what, one.record.target, _measured(one), one.verdict])
    count = {verdict: sum(one.verdict == verdict for one in judged) for verdict in ("yes", "no", "not in this run")}
    return [*lines, "", f"{count['yes']} hold, {count['no']} do not, {count['not in this run']} have no figure in this run."]


def _measured(judged: records.Judged) -> str:
    if judged.value is None:
        return ""
    return f"{judged.value:,.3g}" if judged.value < 1000 else _number(judged.value)


def _values(run: Run, column: str) -> list[str]:
    cells = [run.table.cell(column, participant.name) for participant in run.participants]
    return ["" if cell is None else _number(cell.median, BY_NAME[column].unit) for cell in cells]


def _ratios(table: Table, column: str) -> list[str]:
    ratios = [table.ratio(column, OURS, other) for other, _ in REFERENCES]
    return ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]


def _number(value: float, unit: str = "") -> str:
    return f"{value:,.3f}" if unit == SECONDS else f"{value:,.0f}"


def _markdown_row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


def _judgement(run: Run) -> list[str]:
    below = run.table.below_juicefs()
    compared = [column for column in run.table.columns if run.table.ratio(column, OURS, JUICEFS) is not None]
    if not compared:
        return []
    named = {column: f"{BY_NAME[column].title} ({ratio:.2f})" for column, ratio in below}
    apart = [name for column, name in named.items() if run.table.is_apart(column)]
    close = [name for column, name in named.items() if not run.table.is_apart(column)]
    lines = [f"fusecache is not below JuiceFS in any of {len(compared)} columns."]
    if apart:
        lines = [f"fusecache is below JuiceFS in {len(apart)} of {len(compared)} columns: {', '.join(apart)}."]
    if close:
        lines += ["", f"Equal, as the medians differ by less than the rounds of each: {', '.join(close)}."]
    return lines


def _spread(run: Run) -> list[str]:
    lines = ["Lowest and highest of each column.", ""]
    lines += _markdown_row(["", *(participant.title for participant in run.participants)])
    lines += _markdown_row(["---", *["---:"] * len(run.participants)])
    for column in run.table.columns:
        cells = [run.table.cell(column, participant.name) for participant in run.participants]
        unit = BY_NAME[column].unit
        spans = ["" if cell is None else f"{_number(cell.lowest, unit)} – {_number(cell.highest, unit)}" for cell in cells]
        lines += _markdown_row([BY_NAME[column].title, *spans])
    return lines


def _costs(run: Run) -> list[str]:
    lines = [
        "CPU seconds of one pass of each column: the contender's processes + the server + the readers; in brackets what all",
        "else on the machine used meanwhile (the kernel's own threads, other people's work). Work the kernel does for a reader,",
        "such as copying pages, counts as the reader's.",
        "",
    ]
    lines += _markdown_row(["", *(participant.title for participant in run.participants)])
    lines += _markdown_row(["---", *["---:"] * len(run.participants)])
    for column in run.table.columns:
        if BY_NAME[column].job in (Job.FIRST_BYTE, Job.MEMORY, Job.LS, Job.SENT):
            continue
        costs = []
        for participant in run.participants:
            cell = run.table.cell(column, participant.name)
            costs.append(
                ""
                if cell is None
                else f"{cell.contender_cpu:.1f} + {cell.server_cpu:.1f} + {cell.reader_cpu:.1f} ({cell.other_cpu:.1f})"
            )
        lines += _markdown_row([BY_NAME[column].title, *costs])
    lines += ["", *_costs_of_a_gib(run)]
    peaks = [
        (
            participant.title,
            max((cell.peak_memory_bytes for (_, name), cell in run.table.cells.items() if name == participant.name), default=0),
        )
        for participant in run.participants
    ]
    named = ", ".join(f"{title} {peak // MIB} MiB" for title, peak in peaks if peak)
    return [*lines, "", f"Peak resident memory, summed over a contender's processes (shared pages count in each): {named}."]


def _costs_of_a_gib(run: Run) -> list[str]:
    """The daemons' share of the table before, for each GiB of the big file."""
    lines = ["CPU seconds of the daemons (of the bare client: its own) for each GiB of the big file.", ""]
    lines += _markdown_row(["", *(participant.title for participant in run.participants if participant.name != TMPFS)])
    lines += _markdown_row(["---", *["---:" for participant in run.participants if participant.name != TMPFS]])
    for column in ("big-cold", "checked", "big-cached"):
        costs = [
            run.table.cpu_per_gib(column, participant.name, run.settings.big_bytes)
            for participant in run.participants
            if participant.name != TMPFS
        ]
        lines += _markdown_row([BY_NAME[column].title, *("" if cost is None else f"{cost:.2f}" for cost in costs)])
    return lines


def _hit_ratios(run: Run) -> list[str]:
    text = f"""\
What is read in which order, without any clock: a cache of {hit_ratios.CAPACITY:,} small objects. fusecache is its own
eviction over a real index and tier, which stays below 0.95 of the quota; the others are run on paper and always full,
and Belady knows the future."""
    return _section("Hit ratios", text, list(hit_ratios.lines(run.table.hit_ratios)) if run.table.hit_ratios else [])


def _replayed(run: Run) -> list[str]:
    text = f"""\
{replay.FILES:,} small files, cached; READ requests as the kernel sends them, answered by several serve processes with
neither kernel nor readers, who otherwise take half of the cores. With more processes than cores the rate cannot grow,
but the CPU time of a request would, if they were in each other's way."""
    return _section("Serve processes beside each other", text, replay.lines(list(run.table.replayed.values())))


def _known(run: Run) -> list[str]:
    text = """\
A store that makes its names up, mounted and listed in the background; nobody reads. RssAnon of fetch and the serve processes,
idle."""
    return _section("Ten million names", text, synthetic_names.lines(run.table.known))


def _section(title: str, text: str, table: list[list[str]]) -> list[str]:
    """Return a section with a table of its own, the first of whose rows is the head; nothing without a table."""
    if not table:
        return []
    head, *rows = table
    lines = [f"## {title}", "", text, "", *_markdown_row(head), *_markdown_row(["---", *["---:"] * (len(head) - 1)])]
    for row in rows:
        lines += _markdown_row(row)
    return [*lines, ""]


def _contenders(run: Run) -> list[str]:
    lines = [*_markdown_row(["", "version", "set up as"]), *_markdown_row(["---", "---", "---"])]
    for participant in run.participants:
        lines += _markdown_row([participant.title, participant.version, participant.options])
    lines += [f"\nNot here: {name} ({reason})." for name, reason in run.absent.items()]
    lines += [f"\nFailed: {failure}." for failure in run.failures]
    lines += [f"\nLeft out: {one}." for one in run.disturbed]
    return lines


def _method(run: Run) -> list[str]:
    return f"""\
- The server's data, every cache and JuiceFS's metadata lie on tmpfs: no disk decides, and nobody finds the server colder. Big and
  small files are not there at the same time, as the memory would not hold both; each has a server of its own.
- Objects of up to 8 MiB are uploaded with the CRC-64/NVME that AWS's command line sends, and that AWS keeps of every object.
  fusecache compares each with it; the others do not look.
- Cold: mounted anew with an empty cache, pages, dentries and inodes dropped. Cached, pages dropped: everything is in the
  contender's cache, and the kernel's pages are dropped (`vm.drop_caches=1`). Hot: read again with nothing dropped; a first pass
  is not counted, and all is measured again if anybody else dropped pages meanwhile, which the kernel counts.
- What is not cold is read in several passes, by the same processes, until the passes together took a second: one pass over what
  is in memory takes a tenth of that, and says little. There are thirty passes at most, and five where pages are dropped, which
  happens before each pass, outside the clock. That is the same for everybody.
- `find` begins right after the mount, once with fusecache's defaults, which list the whole tree from the moment it is mounted,
  once with that switched off (`-o sync_listing=false`): what is known before is then what the mount itself looked at to choose
  how it answers OPEN, with the nearest siblings of that. JuiceFS has its names in a local database and asks no store for them.
- A reader is a process that opens, reads with readv(2) into one buffer of 1 MiB until the file ends, and closes; two readers
  share the files. Random reads are preads of 128 KiB at distinct places, so that no page comes twice.
- Cached on a disk: fusecache's tier and index lie on a disk, which is written out (sync) before pages are dropped; the file
  beside it, in the column of tmpfs, is a copy on the same disk. Every byte checked: `-o verify=always`, so no passthrough.
- Warmed: `fusecache warm`, from the start of the command to its end, on a new mount. The bare client fetches the same objects
  and writes each to a file on the same tmpfs.
- Mount to first byte: from the start of the mount command until a reader that was waiting has one byte of a small file; on a warm
  cache: the same after an orderly unmount, with {FILES_TO_RESTART_ON:,} small files cached.
- Anonymous memory: RssAnon of fetch and the serve processes (of others: of all their processes) after the two walks of `find`.
- Ten million names, on request (`--also synthetic`): see there; they lie in directories of a thousand.
- Many names, on request (`--also names`): {run.settings.names:,} empty objects in prefixes of {NAMES_PER_DIRECTORY:,}. The
  first `ls` is that of the root, right after the mount; a restart is an orderly unmount and a new mount, after a walk over
  everything.
- Two readers of the big file: both read all of it, at the same time, and the bytes of both count. The bare client would fetch it
  twice, and is left out.
- Behind a link: the server is in a network namespace of its own, behind a pair of TUN devices; a process that carries packets
  between them gives each one its time, so that there are {BYTES_PER_SECOND / 1e6:.0f} MB/s and {ROUND_TRIP_SECONDS * 1e3:.0f} ms
  there and back, and drops what finds {format_size(QUEUE_BYTES)} waiting. Segments are as long as on an Ethernet, TCP is the
  kernel's. All that is copied has the names and sizes of a directory of a software mirror, {format_size(run.settings.link_bytes)}
  in 7 files, one after the other. "The link" of the records is what the bare client reaches in the same run.
- Writing: every contender gets an empty bucket of its own, which goes with all that is in it. Writers are processes that wait
  before the clock starts, as readers do. The big file is written from its beginning to its end by writes of 1 MiB;
  {run.settings.written_files:,} files of {WRITTEN_SMALL_BYTES >> 10} KiB are written by 4 processes, each in a directory of its
  own, one after the other. The clock stops when the last close has returned. fusecache's close waits for the store (where all is
  looked for afterwards), and so does JuiceFS's. rclone's returns before, so its clock stops when all objects are in the store;
  with `--vfs-write-back 0` it uploads at once, where by default it would first wait for five seconds.
- Brought to the store later: fusecache with `--write-mode back`, JuiceFS with `--writeback`, rclone with its own delay. The clock
  stops when the last close has returned; what was written has to come to the store all the same. Of the three only fusecache
  syncs what it keeps until then, which costs nothing on tmpfs.
- The bare client uploads the same bytes out of memory, side by side, without a checksum. fusecache sends the CRC-64/NVME of each
  part, rclone an MD5.
- 1 MiB in the middle: of an object of {format_size(run.settings.middle_bytes)} that no cache has, across what is a boundary of
  any block. What is sent to the store is counted by a relay before it, heads of requests included; what the store copies by
  itself is not sent.
- In the first round every byte that was written is compared: in the store, where it lies as an object, and through the mount.
- Foreign readers: Python's safetensors loading every tensor of the big file (whose header makes it a model) into numpy arrays;
  {LOADER_PROCESSES} processes that hand batches of {LOADER_BATCH} small files over in shared memory, as torch's DataLoader does,
  without torch; pyarrow reading three of eight columns of a Parquet file of {format_size(run.settings.foreign_bytes)} and adding
  them up; GNU tar unpacking an archive of half that size onto a tmpfs; GNU grep looking for a fixed string in all small files;
  SQLite (`mode=ro`; on JuiceFS also `nolock=1`, as its mounts for reading refuse locks) scanning a table and looking up
  {LOOKED_UP:,} of its rows in a database of half that size. In the first round there is a pass before those that count in which
  every byte is checked; in those that count, sums, numbers of files, rows, lines and bytes are. Imports are not timed.
- rclone and the pyfuse3 engine are left out of some columns, and measured once, because the run takes long enough.
- Contenders take turns in each round, and each session begins with another one, so that all of them meet the same noise.
- In the first round, what each mount serves is compared with the original, byte by byte, outside the clock.
- The bare client reads whole objects or 8 MiB ranges into memory with the best concurrency of those tried, in one process.

To repeat: `make bench` as root (dropping caches needs it). `make bench ARGS=--quick` takes a few minutes with smaller data,
`make bench ARGS="--only big,find --contenders fusecache,juicefs"` measures a part; the environment variables BENCH_SIZE,
BENCH_FILES and BENCH_NAMES change the sizes.""".splitlines()


def _remarks(run: Run) -> list[str]:
    return f"""\
## What these figures do not say
- Server, client and readers share the same cores here, so cold figures measure CPU time more than networks. Behind a link that is
  so too: carrying packets takes a third of a core or so, in the brackets.
- A copy that is cached is at most as many times as fast as one behind the link as memory is: see tmpfs in the same rows.
- "Hot" is the kernel's page cache for all who leave the files in it, whatever daemon is behind: beside tmpfs nothing is left.
- The machine is not ours alone: look at the spread and at the brackets before believing a difference of some percent.
- JuiceFS is read as it is meant to be, from its own format, which it wrote itself; fusecache and rclone read plain objects.
- JuiceFS also writes that format: a MiB in the middle of a file is one MiB more, where others have to make an object anew.
- SeaweedFS uses 12 s of CPU for each GiB that is uploaded, and so has nearly all of the cores while big files are written: the
  contenders lie closer together there than they would before a faster store.
- The readers are Python: with 8 threads they wait for each other above some 50,000 preads a second (tmpfs shows the limit).
- tmpfs "cached" and "hot" are the same thing twice, and show how much the machine wandered.

The run took {run.minutes:.0f} minutes.""".splitlines()
