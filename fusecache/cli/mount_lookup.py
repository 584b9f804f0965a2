"""Which mount a path on the command line means, found by comparing text: the path may lie on a mount that is dead.

Owns no state; reads the records in the run directories.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from fusecache.cli.guarded import look
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.mount_table import MountRecord, list_mounts


@dataclass(frozen=True, slots=True)
class MountedPath:
    """A path in a mount; `path` is relative to its root, "" for the root."""

    record: MountRecord
    path: str


def find_mounted(path: str, run_base: str) -> MountedPath:
    """Return the mount that holds `path`: the one with the longest mount point that is a prefix of it.

    Symbolic links are followed only if the path as written is in no mount. Raises: NOT_FOUND; INVALID for an empty path, which
    would mean the directory the user stands in.
    """
    if not path:
        raise CacheError(ErrorKind.INVALID, "a path is empty; name a mount point (is a variable of a script not set?)")
    records = list_mounts(run_base)
    absolute = os.path.abspath(path)
    found = _longest_prefix(absolute, records)
    if found is None and records:
        found = _longest_prefix(look(path, lambda: os.path.realpath(absolute)), records)
    if found is None:
        raise CacheError(ErrorKind.NOT_FOUND, f"{absolute} is not in a fusecache mount; see the list with: fusecache status")
    return found


def find_by_request(paths: tuple[str, ...], run_base: str) -> list[tuple[MountRecord, list[str]]]:
    """Return the mounts that hold `paths`, each with its relative paths, in the order they were first named."""
    groups: dict[str, tuple[MountRecord, list[str]]] = {}
    for path in paths:
        found = find_mounted(path, run_base)
        groups.setdefault(found.record.run_dir, (found.record, []))[1].append(found.path)
    return list(groups.values())


def _longest_prefix(path: str, records: list[MountRecord]) -> MountedPath | None:
    best: MountedPath | None = None
    for record in records:
        root = record.mountpoint
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            continue
        if best is None or len(root) > len(best.record.mountpoint):
            best = MountedPath(record, path[len(root) :].strip("/"))
    return best
