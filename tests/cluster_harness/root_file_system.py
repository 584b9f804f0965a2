"""Assembles the root directory of a box out of mounts, and makes it the root of a new mount namespace.

Runs in the box's first process, as root, before that becomes its init; standard library only. Nothing is mounted on the machine:
the namespace is private until it has its own root, and shared only with itself from then on, as CSI drivers need it (their
mounts below /var/lib/kubelet must reach the pods: Bidirectional and HostToContainer).
Raises: OSError; the caller's process ends with it, and the namespace with the process.
"""

from __future__ import annotations

import ctypes
import os
import platform

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC = 1 << 5, 1 << 12, 1 << 14
MS_PRIVATE, MS_SHARED = 1 << 18, 1 << 20
MNT_DETACH = 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # glibc has no wrapper; numbers of <asm/unistd.h>

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises: OSError."""
    arguments = (source.encode(), os.fsencode(target), fstype.encode() or None, ctypes.c_ulong(flags), options.encode() or None)
    _check(_libc.mount(*arguments), f"mount {source} on {target}")


def enter(root: str, read_only: dict[str, str]) -> None:
    """Make `root` the root directory of this process, in a mount namespace that is new already.

    Args:
        root: a directory with the skeleton that `skeleton.py` wrote.
        read_only: source on the machine -> absolute path in the box; the mount points are there.
    """
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount(root, root, flags=MS_BIND)
    for source, target in read_only.items():
        mount(source, root + target, flags=MS_BIND | MS_REC)
        mount(source, root + target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    mount("/dev", f"{root}/dev", flags=MS_BIND | MS_REC)
    mount("tmpfs", f"{root}/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)  # what a pod leaves there goes with the box
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", f"{root}/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)  # a new one: it shows the interfaces of the box
    mount("/sys/fs/cgroup", f"{root}/sys/fs/cgroup", flags=MS_BIND | MS_REC)
    if os.path.isdir(f"{root}/sys/fs/fuse/connections"):
        mount("fusectl", f"{root}/sys/fs/fuse/connections", "fusectl")
    mount("tmpfs", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    _pretend_kernel_settings(f"{root}/etc/sysctl-shown", f"{root}/proc/sys")
    os.chdir(root)
    _check(_libc.syscall(PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir("/")
    mount("none", "/", flags=MS_REC | MS_SHARED)


def _pretend_kernel_settings(shown: str, actual: str) -> None:
    """Cover files of /proc/sys, for this namespace, with the values that a kubelet demands.

    It would write them otherwise, and they hold for the whole machine (vm.overcommit_memory, kernel.panic).
    """
    for name in os.listdir(shown):
        target = os.path.join(actual, name.replace(".", "/"))
        if os.path.exists(target):
            mount(os.path.join(shown, name), target, flags=MS_BIND)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
