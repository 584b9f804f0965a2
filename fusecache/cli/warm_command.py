"""`fusecache warm`: has data fetched into the cache, and shows how far it is.

State: the progress of one run. One thread. A fetch process that dies meanwhile is replaced by its supervisor; the request is then
sent again, and what is cached already costs nothing.
"""

from __future__ import annotations

import time
from typing import Any

import click

from fusecache.cli.control_client import ConnectionLost, ask
from fusecache.cli.mount_lookup import find_by_request
from fusecache.cli.places import Places
from fusecache.cli.text import printable
from fusecache.cli.warm_progress import Progress, open_display
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.exit_status import ExitStatus
from fusecache.custody.mount_table import MountRecord

SILENCE_SECONDS = 60.0  # fetch reports several times a second; a process that must be replaced needs a moment


@click.command()
@click.argument("paths", metavar="MOUNTPOINT[/PATH]...", nargs=-1, required=True)
@click.option("--quiet", "-q", is_flag=True, help="No progress, only what failed.")
def warm(paths: tuple[str, ...], quiet: bool) -> int:
    """Fetch paths into the cache. Returns 0 when everything is cached, else 1 with the list of what failed and why."""
    failed: list[tuple[str, str]] = []
    failures = 0
    for record, relative in find_by_request(paths, Places.of_process().run_base):
        named, count = warm_mount(record, relative, quiet=quiet)
        failed += named
        failures += count
    for path, reason in failed:
        click.echo(f"fusecache: {printable(path)}: {printable(reason)}", err=True)
    if failures:
        some = f" (the lines above name {len(failed)} of them)" if failures > len(failed) else ""
        click.echo(f"fusecache: {failures} not cached{some}; mend what the lines above say, and warm again", err=True)
        return ExitStatus.FAILED
    return ExitStatus.OK


def warm_mount(record: MountRecord, relative: list[str], *, quiet: bool = False) -> tuple[list[tuple[str, str]], int]:
    """Warm paths of one mount.

    Returns: (path, reason) of what failed, as far as it is named, and how many failed.
    Raises: CacheError if the mount does not answer.
    """
    with open_display(record.mountpoint, quiet=quiet) as display:
        answer = ask_until_done(record, relative, display)
        display.finish(answer)
    named = [(f"{record.mountpoint}/{path}".rstrip("/"), str(reason)) for path, reason in answer.get("failed", [])]
    return named, max(len(named), int(answer.get("failures", 0)))


def ask_until_done(record: MountRecord, relative: list[str], display: Progress) -> dict[str, Any]:
    """Return the final answer; the request is repeated as long as the mount is supervised."""
    last_word = time.monotonic()
    while True:
        try:
            answer: dict[str, Any] = {}
            for answer in ask(record.run_dir, {"do": "warm", "paths": relative}, SILENCE_SECONDS):
                last_word = time.monotonic()
                display.update(answer)
            return answer
        except ConnectionLost:
            if time.monotonic() - last_word > SILENCE_SECONDS or not record.is_supervised:
                raise CacheError(
                    ErrorKind.UNAVAILABLE, "the mount's daemon went away and did not return; see fusecache status"
                ) from None
            time.sleep(0.2)
