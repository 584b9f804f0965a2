"""`fusecache status`: every mount of this user, or one, as a table or as JSON.

Owns no state. Reads records and control sockets only, never a mount.
"""

from __future__ import annotations

import json

import click

from fusecache.base.units import format_percentage, format_size
from fusecache.cli.control_client import call
from fusecache.cli.mount_lookup import find_mounted
from fusecache.cli.mount_status import ANSWER_SECONDS, statuses
from fusecache.cli.places import Places
from fusecache.cli.text import printable
from fusecache.contract.control import Status
from fusecache.custody.mount_table import list_mounts


@click.command()
@click.argument("mountpoint", required=False)
@click.option("--json", "as_json", is_flag=True, help="A list of objects, for scripts.")
@click.option("--metrics", "as_metrics", is_flag=True, help="The metrics of MOUNTPOINT in the Prometheus text format.")
def status(mountpoint: str | None, as_json: bool, as_metrics: bool) -> int:
    """Show what is mounted, how much of it is cached, and how it does."""
    run_base = Places.of_process().run_base
    if as_metrics:
        if mountpoint is None:
            raise click.UsageError("--metrics needs a MOUNTPOINT")
        record = find_mounted(mountpoint, run_base).record
        click.echo(call(record.run_dir, {"do": "metrics"}, ANSWER_SECONDS)["text"], nl=False)
        return 0
    records = list_mounts(run_base) if mountpoint is None else [find_mounted(mountpoint, run_base).record]
    found = statuses(records)
    if as_json:
        click.echo(json.dumps(found, indent=2))  # ASCII: names that are not UTF-8 pass as escapes
    elif not found:
        click.echo("nothing is mounted", err=True)
    else:
        _print_table(found)
        if mountpoint:
            _print_details(found[0])
    return 0


COLUMNS = (
    "MOUNTPOINT",
    "SOURCE",
    "STATE",
    "TOTAL SIZE",
    "FILES",
    "CACHED",
    "CACHED PERCENTAGE",
    "HIT RATIO",
    "ERRORS",
    "RESTARTS",
)


def table_row(status: Status) -> tuple[str, ...]:
    """Return the cells of a mount, in the order of COLUMNS. A total that is still growing has a "+"."""
    more = "" if status["listing_complete"] else "+"
    return (
        printable(status["mountpoint"]),
        printable(", ".join(status["sources"])),
        status["state"],
        format_size(status["total_bytes"]) + more,
        f"{status['files']}{more}",
        format_size(status["cached_bytes"]),
        f"{status['cached_percentage']:.1f}%",
        format_percentage(status["hit_bytes"], status["hit_bytes"] + status["miss_bytes"]),
        str(status["errors"]),
        str(status["restarts"]),
    )


def _print_table(found: list[Status]) -> None:
    """Columns parted by blanks, as kubectl prints them: `awk` can read it, whatever the width of the terminal."""
    rows = [COLUMNS, *(table_row(status) for status in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_details(status: Status) -> None:
    click.echo()
    for tier in status["tiers"]:
        used = format_percentage(tier["used_bytes"], tier["quota_bytes"])
        size = f"{format_size(tier['used_bytes'])} of {format_size(tier['quota_bytes'])}"
        marks = f"({used}, high {tier['high']:g}, low {tier['low']:g})"
        click.echo(f"{tier['medium']} tier {printable(tier['path'])}: {size} {marks}")
        if tier["errors"]:
            click.echo(f"  {tier['errors']} errors, the last: {printable(tier['last_error'])}")
    pids = status["pids"]
    writing = f", writing {status['write_mode']}" if status["write_mode"] else ""
    click.echo(f"engine {status['engine']}, access {status['access'] or 'undecided'}{writing}")
    click.echo(
        f"processes: supervisor {pids['supervisor']}, fetch {pids['fetch']}, serve {' '.join(map(str, pids['serve'])) or '-'}"
    )
    click.echo(f"from the store: {format_size(status['remote_bytes'])} in {status['remote_requests']} requests")
    for count, meaning in (
        (status["checksum_failures"], "checksum failures, mended"),
        (status["index_errors"], "changes of the index that found no room: free space on the disk of the cache directory"),
        (status["hidden"], "names that cannot be shown (see the log)"),
    ):
        if count:
            click.echo(f"{count} {meaning}")
    if status["pending_files"]:
        click.echo(f"not in the store yet: {status['pending_files']} files, {format_size(status['pending_bytes'])}")
    if status["kept_files"]:
        where = printable(status["kept_dir"])
        click.echo(f"{status['kept_files']} files that cannot be uploaded are kept in {where}; see: fusecache recover")
    if status["last_error"]:
        click.echo(f"last error: {printable(status['last_error'])}")
