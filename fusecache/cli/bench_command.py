"""`fusecache bench`: how fast a mount is, or a source behind a mount of its own.

State: a temporary mount and its cache, if a source was named; an exit stack takes them away in reverse order. Main thread; a
first Ctrl-C starts cleaning up, which later ones do not interrupt.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile

import click

from fusecache.base.units import format_size, parse_size
from fusecache.cli.bench_reading import SMALL_BYTES, Reading
from fusecache.cli.bench_report import Bench, as_json, print_table, write_svg
from fusecache.cli.guarded import look
from fusecache.cli.interrupts import Interrupts, interruptible
from fusecache.cli.mount_command import make_mount
from fusecache.cli.mount_lookup import find_mounted
from fusecache.cli.places import Places
from fusecache.cli.spec_building import MountArguments
from fusecache.cli.text import printable
from fusecache.cli.tier_options import default_memory_quota
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.unmount import unmount


@click.command()
@click.argument("target", metavar="SOURCE|MOUNTPOINT[/PATH]")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="For a SOURCE: a setting or an option, as for mount.")
@click.option("--size", default="1Gi", metavar="SIZE", help="Read so much of the largest file. Default: 1Gi.")
@click.option("--files", default=1000, type=click.IntRange(1), metavar="N", help="Read so many small files. Default: 1000.")
@click.option("--directory", metavar="PATH", help="For a SOURCE: where its cache lies meanwhile. Default: in memory.")
@click.option("--json", "as_text", is_flag=True, help="{target, how, results: [{name, rate, unit, ...}], notes}.")
@click.option("--svg", "picture", metavar="FILE", default="", help="Draw the rates, too.")
def bench(
    target: str, options: tuple[str, ...], size: str, files: int, directory: str | None, as_text: bool, picture: str
) -> int:
    """Measure names, sequential and random reads and small files.

    A MOUNTPOINT (or a directory in it) is read as it is, with what is cached there; anything else is a SOURCE, which is
    mounted for as long as it takes, with an empty cache that goes away afterwards.
    """
    size_bytes = parse_size(size)
    if size_bytes < SMALL_BYTES:
        raise CacheError(ErrorKind.INVALID, f"--size {size} is too little to measure; it must be at least 1Mi")
    if picture and (os.path.isdir(picture) or not os.access(os.path.dirname(os.path.abspath(picture)), os.W_OK)):
        raise CacheError(ErrorKind.INVALID, f"--svg {picture}: no file can be written there; name one in a directory of yours")
    with interruptible() as interrupts, contextlib.ExitStack() as stack:
        try:
            places = Places.of_process()
            if _is_mounted(target, places):
                if options or directory:
                    raise CacheError(ErrorKind.INVALID, f"{target} is mounted already: -o and --directory are for a SOURCE")
                root, first, how = os.path.abspath(target), "first", "mounted before; first: with what was cached then"
                if not look(root, lambda: os.path.isdir(root)):
                    raise CacheError(ErrorKind.NOT_FOUND, f"{root} is not a directory; name the mount point, or one below it")
            else:
                first, needed = "cold", (size_bytes + files * SMALL_BYTES) * 5 // 4  # nothing reaches the tier's high mark
                root, how = _mount_for_now(target, options, directory, needed, places, interrupts, stack)
            reading = Reading(root, first, size_bytes, files, interrupts.check)
            reading.run(_say)
        finally:
            interrupts.finish()
    found = Bench(target, how, reading.results, reading.notes)
    if picture:
        write_svg(found, picture)
    if as_text:
        click.echo(as_json(found))
    else:
        print_table(found)
    return 0


def _is_mounted(target: str, places: Places) -> bool:
    """True if the target is in a mount of this user's; everything else is a source, local directories included."""
    if "://" in target or "::" in target:
        return False
    try:
        find_mounted(target, places.run_base)
    except CacheError as error:
        if error.kind is ErrorKind.NOT_FOUND:
            return False
        raise
    return True


def _mount_for_now(
    target: str,
    options: tuple[str, ...],
    directory: str | None,
    needed_bytes: int,
    places: Places,
    interrupts: Interrupts,
    stack: contextlib.ExitStack,
) -> tuple[str, str]:
    """Mount a source with a cache of its own. Returns: the mount point, and a sentence for the user."""
    room = _room(directory, needed_bytes, places.shared_memory)
    with interrupts.deferred():
        scratch = tempfile.mkdtemp(prefix="fusecache-bench-", dir=room)
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
    mountpoint, cache, tier = (os.path.join(scratch, name) for name in ("mount", "cache", "tier"))
    for path in (mountpoint, cache, tier):
        os.mkdir(path, 0o700)
    given = MountArguments((target, mountpoint), tiers=(f"{tier}:{needed_bytes}",), options=options)
    stack.callback(_take_away_mount, places.run_base, mountpoint)
    make_mount(given, places._replace(cache_home=cache), interrupts)
    return mountpoint, f"mounted for this, with an empty cache of {format_size(needed_bytes)} in {room}"


def _room(directory: str | None, needed_bytes: int, shared_memory: str) -> str:
    """Return where there is room for the cache: in memory if it can be. Raises: NO_SPACE, NOT_FOUND."""
    if directory is None and default_memory_quota(shared_memory) >= needed_bytes <= shutil.disk_usage(shared_memory).free:
        return shared_memory
    place = directory or tempfile.gettempdir()
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise CacheError(ErrorKind.NOT_FOUND, f"--directory {place}: {error.strerror}; name one that exists") from error
    if free < needed_bytes:
        cure = "lower --size and --files, or name another --directory"
        needed, there = format_size(needed_bytes), format_size(free)
        raise CacheError(ErrorKind.NO_SPACE, f"the bench needs {needed} in {place}, {there} are free; {cure}")
    return place


def _take_away_mount(run_base: str, mountpoint: str) -> None:
    try:
        unmount(run_base, mountpoint, lazy=True)
    except CacheError as error:
        if error.kind is not ErrorKind.NOT_FOUND:  # never mounted, or its supervisor has cleaned up already
            click.echo(f"fusecache: {printable(str(error))}", err=True)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"reading {printable(text)} ...", err=True)
