"""`fusecache umount`: ends a mount, alive or dead, and leaves only its cache.

Owns no state; custody does the work.
"""

from __future__ import annotations

import click

from fusecache.cli.guarded import look
from fusecache.cli.places import Places
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.mountinfo import resolve_mountpoint
from fusecache.custody.unmount import unmount


@click.command()
@click.argument("mountpoint")
@click.option("--lazy", "-l", is_flag=True, help="Also while it is in use: whoever uses it gets errors.")
def umount(mountpoint: str, lazy: bool) -> int:
    """Unmount MOUNTPOINT. The cache stays for the next mount of the same sources."""
    if not mountpoint:
        raise CacheError(ErrorKind.INVALID, "the mount point is empty; name a directory (is a variable of a script not set?)")
    resolved = look(mountpoint, lambda: resolve_mountpoint(mountpoint))
    unmount(Places.of_process().run_base, resolved, lazy=lazy)
    return 0
