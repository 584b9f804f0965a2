"""`fusecache refresh`: compares the tree with the source now, without waiting for the TTL.

Owns no state; fetch does the work.
"""

from __future__ import annotations

import click

from fusecache.cli.control_client import call
from fusecache.cli.mount_lookup import find_by_request
from fusecache.cli.places import Places

ANSWER_SECONDS = 3600.0  # a listing of millions of names; a lost daemon is noticed at once, by its socket


@click.command()
@click.argument("paths", metavar="MOUNTPOINT[/PATH]...", nargs=-1, required=True)
def refresh(paths: tuple[str, ...]) -> int:
    """List paths again, and show what changed at the source."""
    changed = 0
    for record, relative in find_by_request(paths, Places.of_process().run_base):
        changed += int(call(record.run_dir, {"do": "refresh", "paths": relative}, ANSWER_SECONDS).get("changed", 0))
    click.echo(f"{changed} entries changed")
    return 0
