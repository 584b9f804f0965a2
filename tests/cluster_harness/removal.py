"""Takes back everything that a boot made, whole or half: processes, interface, cgroups, directory.

Works from what is on disk and in the cluster's own cgroup, so it can be repeated, and can finish what an earlier removal did not.
Nothing is ended by name. A process ends because a box's first process is recorded with its start time and every other process of
the box ends with it, or because it is in the cgroup that carries the cluster's identity.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from fusecache.custody.mount_table import ProcessId, end_process
from fusecache.custody.mountinfo import read_mountinfo
from tests.cluster_harness import cgroups, wiring
from tests.cluster_harness.boxes import wait_ended
from tests.cluster_harness.cluster import Cluster
from tests.cluster_harness.record import RECORD_FILE

CGROUP_SECONDS = 60.0


class RemovalError(Exception):
    """Something cannot be taken back; says what, and what to do."""


def remove(directory: Path, *, keep_directory: bool = False) -> None:
    """Remove the cluster below `directory`, whose lock the caller holds.

    Args:
        keep_directory: leave it there, empty, so that the lock holds for what is booted into it next.
    Raises: RemovalError, BoxError, OSError; whatever is left can be removed by another call.
    """
    if (cluster := Cluster.load(directory)) is not None:
        boxes = [cluster.box(name) for name in cluster.record.boxes]
        for box in boxes:
            box.kill()
        wait_ended([first for box in boxes if (first := box.first)], "a box")
        _remove_cgroup(cluster.record.cgroup)
        wiring.disconnect(cluster.record)
    _empty(directory)
    if not keep_directory:
        directory.rmdir()


def leftovers(cluster: Cluster) -> list[str]:
    """Return what is there of a cluster that has been removed: nothing, if all is well."""
    found = [f"process {pid}" for pid in cgroups.processes(cluster.record.cgroup)]
    found += [
        str(hierarchy / cluster.record.cgroup)
        for hierarchy in cgroups.hierarchies()
        if (hierarchy / cluster.record.cgroup).exists()
    ]
    found += [f"interface {cluster.record.interface}"] if wiring.is_connected(cluster.record) else []
    found += [f"mount {path}" for path in _mounts_below(cluster.directory)]
    found += [str(cluster.directory)] if cluster.directory.exists() else []
    return found


def _remove_cgroup(cgroup: str) -> None:
    """Remove the cgroup, and whoever is in it: boxes are empty by now, but a launcher may have been on its way to a new one when
    the boot was killed. Once the cgroup is gone, no launcher gets any further.
    """
    deadline = time.monotonic() + CGROUP_SECONDS
    while True:
        for pid in cgroups.processes(cgroup):
            end_process(ProcessId.of(pid))
        try:
            return cgroups.remove(cgroup)
        except OSError:  # busy: the last are on their way out
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _mounts_below(directory: Path) -> list[str]:
    inside = f"{directory.resolve()}/"
    return [entry.mountpoint for entry in read_mountinfo() if entry.mountpoint.startswith(inside)]


def _empty(directory: Path) -> None:
    """Remove the record last: a removal that is cut short can be repeated then.

    A boot mounts nothing here; whatever is mounted was mounted by somebody else, and its files are not ours.
    """
    if mounts := _mounts_below(directory):
        raise RemovalError(f"{', '.join(mounts)} is mounted by somebody else: unmount it, then try again")
    for path in sorted(directory.iterdir(), key=lambda path: path.name == RECORD_FILE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
