"""Worlds whose remote place is a local directory behind a server (or none). Stateless but for the clock of file times."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from fusecache.source.protocol import Source
from tests.contract.source_suite import ODD_NAMES, SourceWorld

# Web servers tell times in seconds, so each file gets a second of its own: two bodies never have one version.
_seconds = itertools.count(1_700_000_000)


def put_file(root: Path, path: bytes, body: bytes) -> None:
    """Create or replace a file as careful writers do: beside, then renamed."""
    target = os.path.join(os.fsencode(root), path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    scratch = os.path.join(os.fsencode(root), b"..", b"scratch-%d" % os.getpid())
    with open(scratch, "wb") as file:
        file.write(body)
    now = next(_seconds)
    os.utime(scratch, (now, now))
    os.replace(scratch, target)


def directory_world(root: Path, open: Callable[[], Source], without: tuple[bytes, ...] = ()) -> SourceWorld:
    """Return the world of a source that shows `root`. Args: `without`: odd names its server cannot show."""
    return SourceWorld(
        open,
        lambda path, body: put_file(root, path, body),
        lambda path: os.unlink(os.path.join(os.fsencode(root), path)),
        odd_names=tuple(name for name in ODD_NAMES if name not in without),
    )
