"""`fusecache top`: what every mount does right now, until Ctrl-C.

State: the last sample of each mount. One thread beside those that ask.
"""

from __future__ import annotations

import time

import click

from fusecache.base.units import format_percentage, format_size
from fusecache.cli.mount_status import statuses
from fusecache.cli.places import Places
from fusecache.cli.text import printable
from fusecache.contract.control import Status
from fusecache.custody.mount_table import list_mounts

COLUMNS = ("MOUNTPOINT", "STATE", "READ/S", "FROM STORE/S", "HIT RATIO", "CACHED", "ERRORS", "RESTARTS")


@click.command()
@click.option("--interval", default=1.0, type=click.FloatRange(0.1), metavar="SECONDS", help="Time between samples. Default: 1.")
@click.option("--count", default=0, type=click.IntRange(0), metavar="N", help="Stop after N tables. Default: never.")
def top(interval: float, count: int) -> int:
    """Show the rates of all mounts, refreshed."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    run_base = Places.of_process().run_base
    before: dict[str, Status] = {}
    then = time.monotonic()
    shown = 0
    with Live(console=Console(), auto_refresh=False) as live:
        try:
            while count == 0 or shown < count:
                now = time.monotonic()
                found = {status["mountpoint"]: status for status in statuses(list_mounts(run_base))}
                table = Table(*COLUMNS, box=None, pad_edge=False)
                for mountpoint, status in found.items():
                    table.add_row(*rate_row(before.get(mountpoint), status, now - then))
                live.update(table, refresh=True)
                before, then = found, now
                shown += 1
                if count == 0 or shown < count:
                    time.sleep(interval)
        except KeyboardInterrupt:
            pass
    return 0


def rate_row(before: Status | None, now: Status, seconds: float) -> tuple[str, ...]:
    """Return the cells of a mount. Counters that went backwards (a new mount at the same place) count from 0."""
    read = _rate(before, now, seconds, "hit_bytes") + _rate(before, now, seconds, "miss_bytes")
    remote = _rate(before, now, seconds, "remote_bytes")
    hits = now["hit_bytes"]
    return (
        printable(now["mountpoint"]),
        now["state"],
        f"{format_size(read)}/s",
        f"{format_size(remote)}/s",
        format_percentage(hits, hits + now["miss_bytes"]),
        f"{now['cached_percentage']:.1f}%",
        str(now["errors"]),
        str(now["restarts"]),
    )


def _rate(before: Status | None, now: Status, seconds: float, field: str) -> float:
    if before is None or seconds <= 0:
        return 0.0
    last, current = int(before[field]), int(now[field])  # type: ignore[literal-required]
    return (current - last if current >= last else current) / seconds
