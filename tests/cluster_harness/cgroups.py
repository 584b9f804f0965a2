"""The cgroup of a cluster: one directory of the same name in every hierarchy, v1 or v2, at its root.

fusecache-<identity>/<box>/system holds the processes of a box, fusecache-<identity>/<box>/pods is the root of its kubelet. Two
directories, because in v2 a cgroup that hands controllers on to its children may hold no process itself.
Raises: OSError.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
INHERITED = ("cpuset.cpus", "cpuset.mems")  # empty in a new cgroup of v1, which then takes no process


def hierarchies() -> list[Path]:
    """Return the roots of all hierarchies: one in v2, one for each (set of) controllers and "unified" in v1."""
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT]
    found = {path.resolve() for path in MOUNT.iterdir() if (path / "cgroup.procs").exists()}
    return sorted(found)


def make_box(cgroup: str, box: str) -> None:
    for hierarchy in hierarchies():
        for part in (cgroup, f"{cgroup}/{box}", f"{cgroup}/{box}/system", f"{cgroup}/{box}/pods"):
            directory = hierarchy / part
            directory.mkdir(exist_ok=True)
            _inherit(directory)
            if not part.endswith("/system"):
                _hand_controllers_on(directory)


def process_files(cgroup: str, box: str) -> list[str]:
    """Return the files that a process of a box writes its pid to."""
    return [str(hierarchy / cgroup / box / "system" / "cgroup.procs") for hierarchy in hierarchies()]


def pods_cgroup(cgroup: str, box: str) -> str:
    """Return the root of a kubelet's cgroups, as it wants it named."""
    return f"/{cgroup}/{box}/pods"


def processes(cgroup: str) -> list[int]:
    """Return the pids in a cluster's cgroup, all the way down."""
    found: set[int] = set()
    for directory in _directories(cgroup):
        with contextlib.suppress(FileNotFoundError):
            found.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
    return sorted(found)


def remove(cgroup: str) -> None:
    """Remove a cluster's cgroup from every hierarchy. Raises: OSError if a process is left in it."""
    for directory in _directories(cgroup):
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()


def _directories(cgroup: str) -> list[Path]:
    """Return all directories of a cluster's cgroup, children before their parents."""
    found = []
    for hierarchy in hierarchies():
        for path, _, _ in os.walk(hierarchy / cgroup, topdown=False):
            found.append(Path(path))
    return found


def _inherit(directory: Path) -> None:
    for name in INHERITED:
        file = directory / name
        with contextlib.suppress(FileNotFoundError):  # no cpuset in this hierarchy
            if not file.read_text().strip() and (directory.parent / name).exists():
                file.write_text((directory.parent / name).read_text())


def _hand_controllers_on(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # v1
        controllers = (directory / "cgroup.controllers").read_text().split()
        (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
