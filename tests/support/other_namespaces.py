"""Takes a mount away wherever it is: a mount namespace that another test made meanwhile (a container's, a keeper's) has a copy
of every mount of the machine, and as long as one copy is left, the kernel tells no daemon that its mount is gone."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fusecache.custody.mountinfo import find_mount, parse_mountinfo
from tests.support.mounted import wait_until

UNMOUNT_SECONDS = 10.0


@contextlib.contextmanager
def copied_namespace() -> Iterator[None]:
    """A mount namespace with a copy of every mount, as one of a container is until the container has its own root."""
    with subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"made\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"made\n"  # by cat, so unshare is done
        yield


def unmount_everywhere(mountpoint: Path) -> None:
    """Unmount here, then in every other mount namespace. Raises: subprocess.CalledProcessError, AssertionError."""
    mount = find_mount(str(mountpoint))
    assert mount is not None
    subprocess.run(["umount", str(mountpoint)], check=True, timeout=UNMOUNT_SECONDS)
    assert wait_until(lambda: not _unmount_copies(mount.device), UNMOUNT_SECONDS)


def _unmount_copies(device: str) -> bool:
    """Unmount what other namespaces have of `device`; return whether there was anything."""
    seen = {os.readlink("/proc/self/ns/mnt")}
    found = False
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, and its namespace perhaps with it
            namespace = os.readlink(process / "ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            for entry in parse_mountinfo((process / "mountinfo").read_bytes()):
                if entry.device == device:
                    found = True
                    command = ["nsenter", f"--mount={process}/ns/mnt", "umount", "-l", entry.mountpoint]
                    subprocess.run(command, check=False, timeout=UNMOUNT_SECONDS, stderr=subprocess.DEVNULL)
    return found
