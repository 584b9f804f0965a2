"""`fusecache umount`: ends a mount, alive or dead, and leaves only its cache.

Owns no state; custody does the work.
"""

from __future__ import annotations

import click

from fusecache.base.units import format_size
from fusecache.cli.guarded import look
from fusecache.cli.places import Places
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.mountinfo import resolve_mountpoint
from fusecache.custody.unmount import unmount


@click.command()
@click.argument("mountpoint")
@click.option("--lazy", "-l", is_flag=True, help="Also while it is in use, or its files are not uploaded yet.")
def umount(mountpoint: str, lazy: bool) -> int:
    """Unmount MOUNTPOINT. The cache stays for the next mount of the same sources.

    Waits until everything that was written is in the store; with --lazy the next mount of the same sources uploads it.
    """
    if not mountpoint:
        raise CacheError(ErrorKind.INVALID, "the mount point is empty; name a directory (is a variable of a script not set?)")
    resolved = look(mountpoint, lambda: resolve_mountpoint(mountpoint))
    try:
        unmount(Places.of_process().run_base, resolved, lazy=lazy, on_waiting=_tell)
    except KeyboardInterrupt:
        click.echo("fusecache: the mount is gone; its files are being uploaded, see the log", err=True)
        raise
    return 0


def _tell(files: int, size: int) -> None:
    if files:
        click.echo(f"fusecache: waiting until {files} files ({format_size(size)}) are uploaded", err=True)
