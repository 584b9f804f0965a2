"""`fusecache drop`: gives back the space of cached data.

Owns no state; fetch does the work.
"""

from __future__ import annotations

import click

from fusecache.base.units import format_size
from fusecache.cli.control_client import call
from fusecache.cli.mount_lookup import find_by_request
from fusecache.cli.places import Places

ANSWER_SECONDS = 600.0  # unlinking many containers on a slow disk; a guess


@click.command()
@click.argument("paths", metavar="MOUNTPOINT[/PATH]...", nargs=-1, required=True)
def drop(paths: tuple[str, ...]) -> int:
    """Drop the cached data of paths; readers then fetch it again."""
    freed = 0
    for record, relative in find_by_request(paths, Places.of_process().run_base):
        freed += int(call(record.run_dir, {"do": "drop", "paths": relative}, ANSWER_SECONDS).get("bytes", 0))
    click.echo(f"{format_size(freed)} freed")
    return 0
