"""Everything in which a secret could be found: processes as /proc shows them, and files. Stateless."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

OF_A_PROCESS = ("cmdline", "environ", "mountinfo", "mounts", "maps")


def texts_of_process(pid: int) -> dict[str, bytes]:
    return {f"/proc/PID/{name} of {pid}": Path(f"/proc/{pid}/{name}").read_bytes() for name in OF_A_PROCESS}


def texts_below(directory: Path, without: Collection[Path] = ()) -> dict[str, bytes]:
    """Return every regular file below, by path, but for those below `without`."""
    found = {}
    for place, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if Path(place, name) not in without]
        for name in names:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                found[str(path)] = path.read_bytes()
    return found


def core_limit(pid: int) -> tuple[str, str]:
    """Return the soft and the hard limit, as text."""
    line = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core file size"))
    soft, hard = line.split()[4:6]
    return soft, hard
