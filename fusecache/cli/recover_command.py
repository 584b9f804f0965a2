"""`fusecache recover`: what was written and is not in the store: lists it, saves it elsewhere, tries it again, or drops it.

Owns no state. What waits for its upload belongs to a mount, and is only listed; what cannot be uploaded lies in `kept/` of a
state directory (fetch/kept_aside.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from fusecache.base.units import format_size
from fusecache.cli.places import Places
from fusecache.cli.text import printable
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.run_files import STAGE_DIR
from fusecache.custody.mount_table import list_mounts
from fusecache.fetch.journal import Journal, Record
from fusecache.fetch.kept_aside import KeptFile, kept_files
from fusecache.tiers.stage import Run, Stage

PIECE_BYTES = 1 << 20


class _State:
    """State directories: below the cache directory, and of the mounts that are there."""

    def __init__(self, cache_dir: str | None) -> None:
        places = Places.of_process()
        base = Path(cache_dir or os.path.join(places.cache_home, "fusecache"))
        found = {entry for entry in base.iterdir() if entry.is_dir()} if base.is_dir() else set()
        self.mounted = {Path(record.state_dir) for record in list_mounts(places.run_base)}
        self.directories = found | self.mounted

    def kept(self) -> list[KeptFile]:
        return [kept for directory in sorted(self.directories) for kept in kept_files(directory)]

    def find(self, name: str) -> KeptFile:
        """Raises: NOT_FOUND."""
        found = [kept for kept in self.kept() if kept.name == name]
        if not found:
            raise CacheError(ErrorKind.NOT_FOUND, f"nothing is kept as {name!r}; see: fusecache recover")
        return found[0]

    def pending(self) -> Iterator[tuple[Record, bool]]:
        """Yield records of the journals, and whether their mount is there."""
        for directory in sorted(self.directories):
            journal = Journal(directory / STAGE_DIR)
            for stage in sorted(journal.stages()):
                with contextlib.suppress(CacheError):  # uploaded at this moment
                    yield journal.load(stage), directory in self.mounted


@click.group(invoke_without_command=True)
@click.option("--cache-dir", metavar="DIR", help="Where caches lie, if it is not the usual place.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects, for scripts.")
@click.pass_context
def recover(context: click.Context, cache_dir: str | None, as_json: bool) -> None:
    """List what was written and is not in the store; save it elsewhere, try it again, or drop it."""
    context.obj = _State(cache_dir)
    if context.invoked_subcommand is None:
        _print_list(context.obj, as_json)


@recover.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=False))
@click.option("--partial", is_flag=True, help="Also if bytes are missing that only the replaced version had: they become zeros.")
@click.pass_obj
def save(state: _State, name: str, file: str, partial: bool) -> None:
    """Write the bytes kept as NAME to FILE, which must not exist."""
    kept = state.find(name)
    with _opened(kept) as stage:
        _check_whole(kept, stage, partial)
        try:
            target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheError(ErrorKind.INVALID, f"{file!r} cannot be made: {error.strerror}") from error
        _copy(stage, target, file)
    click.echo(
        f"{format_size(kept.size)} saved as {printable(file)}; fusecache recover drop {printable(name)} removes the original"
    )


@recover.command()
@click.argument("name")
@click.argument("mountpoint", type=click.Path(exists=True, file_okay=False))
@click.option("--partial", is_flag=True, help="Also if bytes are missing that only the replaced version had: they become zeros.")
@click.pass_obj
def retry(state: _State, name: str, mountpoint: str, partial: bool) -> None:
    """Write the bytes kept as NAME over what is at their path below MOUNTPOINT, the root of their source, and remove them."""
    kept = state.find(name)
    path = os.path.join(mountpoint, kept.path)
    with _opened(kept) as stage:
        _check_whole(kept, stage, partial)
        try:
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CacheError(ErrorKind.INVALID, f"{path!r} cannot be written: {error.strerror}; nothing was removed") from error
        _copy(stage, target, path)
    kept.remove()
    click.echo(f"{format_size(kept.size)} written to {printable(path)}")


@recover.command()
@click.argument("name")
@click.pass_obj
def drop(state: _State, name: str) -> None:
    """Remove the bytes kept as NAME for good."""
    kept = state.find(name)
    kept.remove()
    click.echo(f"{format_size(kept.size)} removed")


def _print_list(state: _State, as_json: bool) -> None:
    kept, pending = state.kept(), list(state.pending())
    if as_json:
        told = [
            {"name": one.name, "source": one.source, "path": one.path, "bytes": one.size, "time": one.time, "reason": one.reason}
            for one in kept
        ]
        waits = [
            {
                "name": "",
                "source": record.owner.source,
                "path": record.owner.path.decode("utf-8", "surrogateescape"),
                "bytes": record.size,
                "time": record.stored_ns / 1e9,
                "reason": _why_pending(is_mounted),
            }
            for record, is_mounted in pending
        ]
        click.echo(json.dumps(told + waits, indent=2))
        return
    if not kept and not pending:
        click.echo("nothing is kept: everything that was written is in the stores", err=True)
    for one in kept:
        click.echo(
            f"{printable(one.name)}: {format_size(one.size)} of {printable(f'{one.source}/{one.path}')},"
            f" {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(one.time))}: {printable(one.reason)}"
        )
    if kept:
        click.echo(
            "save them with: fusecache recover save NAME FILE; or over the store's: fusecache recover retry NAME MOUNTPOINT"
        )
    for record, is_mounted in pending:
        path = record.owner.path.decode("utf-8", "surrogateescape")
        click.echo(f"{printable(f'{record.owner.source}/{path}')}: {format_size(record.size)}, {_why_pending(is_mounted)}")


def _why_pending(is_mounted: bool) -> str:
    return "waits to be uploaded" if is_mounted else "is uploaded by the next mount of this source with --read-write"


@contextlib.contextmanager
def _opened(kept: KeptFile) -> Iterator[Stage]:
    with contextlib.closing(Stage.open_files(kept.data, kept.map, writable=False)) as stage:
        yield stage


def _missing(kept: KeptFile, stage: Stage) -> list[Run]:
    return [run for run in stage.runs(0, kept.size) if not run.is_new]


def _check_whole(kept: KeptFile, stage: Stage, partial: bool) -> None:
    """Raises: INVALID if bytes are missing and that was not asked for."""
    missing = _missing(kept, stage)
    if missing and not partial:
        size = sum(run.end - run.start for run in missing)
        raise CacheError(
            ErrorKind.INVALID,
            f"{format_size(size)} of {format_size(kept.size)} were not written but part of the version that was replaced"
            f" (from {missing[0].start} on); --partial writes zeros in their place",
        )


def _copy(stage: Stage, target: int, path: str) -> None:
    """Raises: UNAVAILABLE; what is kept stays."""
    try:
        with open(target, "wb") as file:
            for run in stage.runs(0, stage.size):
                if not run.is_new:
                    continue
                for start in range(run.start, run.end, PIECE_BYTES):
                    piece = memoryview(bytearray(min(PIECE_BYTES, run.end - start)))
                    stage.pread_into(piece, start)
                    file.seek(start)
                    file.write(piece)
            file.truncate(stage.size)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CacheError(
            ErrorKind.UNAVAILABLE, f"{path!r} could not be written: {error.strerror}; the original is still kept"
        ) from error
