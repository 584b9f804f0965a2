"""What `fusecache doctor` checks about the machine: kernel, permissions, limits, memory, tiers, packages, remains of mounts.

Stateless. Reads /proc, /sys and the directories of tiers, writes nothing but a file it removes at once, mounts nothing.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator

from fusecache.base.units import MIB, format_size
from fusecache.cli.doctor_finding import FAIL, OK, WARN, Finding
from fusecache.cli.places import Places
from fusecache.cli.storage import file_system_of, memory_limit_bytes
from fusecache.cli.tier_options import PROCESS_MEMORY_BYTES, TierRequest, check_quotas, existing_ancestor
from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import Medium
from fusecache.custody.fuse_mount import may_allow_other
from fusecache.custody.mount_table import list_mounts

OLDEST_KERNEL = (4, 20)  # FOPEN_CACHE_DIR and FUSE_NO_OPENDIR_SUPPORT: what an open-less mount rests on (5.1 for directories)
PASSTHROUGH_KERNEL = (6, 9)  # FUSE_PASSTHROUGH and FUSE_NOTIFY_RESEND came with FUSE 7.40
ENOUGH_FILES = 4096  # descriptors: containers kept open, sockets, clones; a guess with room
SMALL_FREE_BYTES = 1 << 30
CAP_SYS_ADMIN = 21
_REQUIRED = ("aiohttp", "fsspec", "lmdb", "obstore", "ossfs", "s3fs", "trio", "urllib3", "xxhash")


def check_machine(places: Places, tiers: Iterable[TierRequest]) -> Iterator[Finding]:
    """Yield the findings, in the order they are read best."""
    yield _python()
    yield from _packages()
    yield from check_kernel(os.uname().release, places.uid)
    yield _fuse_device()
    yield from _permission(places.uid)
    yield _read_ahead()
    yield from _limits()
    yield _memory()
    yield from check_tiers(list(tiers))
    yield from _remains(places.run_base)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", OK, f"Python {version}")


def _packages() -> Iterator[Finding]:
    missing = [name for name in _REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding("packages", FAIL, f"missing: {', '.join(missing)}", "reinstall fusecache with its dependencies")
    else:
        yield Finding("packages", OK, "all required packages are installed")
    extras = {"pyfuse3 engine": importlib.util.find_spec("pyfuse3"), "nfs://": ctypes.util.find_library("nfs")}
    have = [name for name, found in extras.items() if found]
    yield Finding("extras", OK, f"installed: {', '.join(have) or 'none'} (of {', '.join(extras)})")


def check_kernel(release: str, uid: int) -> Iterator[Finding]:
    """Say what this kernel release offers."""
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < OLDEST_KERNEL:
        yield Finding("kernel", FAIL, f"Linux {release}", f"use Linux {OLDEST_KERNEL[0]}.{OLDEST_KERNEL[1]} or later")
        return
    yield Finding("kernel", OK, f"Linux {release}")
    if version < PASSTHROUGH_KERNEL:
        yield Finding("passthrough", WARN, "large cached files are read through the daemon", "use Linux 6.9 or later")
        message = "requests that a dead daemon had taken are answered from shared memory alone"
        yield Finding("resend", WARN, message, "use Linux 6.9 or later for the second line of defence")
        return
    if uid == 0:
        yield Finding("passthrough", OK, "the kernel can read large cached files from the tier itself")
    else:
        message = "large cached files are read through the daemon: passthrough takes root"
        yield Finding("passthrough", WARN, message, "mount as root where reading large files must be fastest")
    yield Finding("resend", OK, "the kernel can repeat requests that a dead daemon had taken")


def _fuse_device() -> Finding:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Finding("/dev/fuse", FAIL, "missing", "modprobe fuse; in a container: docker run --device /dev/fuse")
    except OSError as error:
        return Finding(
            "/dev/fuse", FAIL, f"cannot be opened: {error.strerror}", "chmod 666 /dev/fuse, or allow the device in this container"
        )
    return Finding("/dev/fuse", OK, "can be opened")


def _permission(uid: int) -> Iterator[Finding]:
    if uid == 0:
        if _has_capability(CAP_SYS_ADMIN):
            yield Finding("mount", OK, "root with CAP_SYS_ADMIN mounts by itself")
        else:
            yield Finding(
                "mount",
                FAIL,
                "root without CAP_SYS_ADMIN cannot mount",
                "docker run --cap-add SYS_ADMIN (with --device /dev/fuse)",
            )
        return
    path = shutil.which("fusermount3", path="/usr/bin:/bin:/usr/local/bin:/usr/sbin")
    if path is None:
        yield Finding(
            "mount", FAIL, "fusermount3 is missing, which mounts for ordinary users", "apt install fuse3 (or dnf install fuse3)"
        )
    elif not os.stat(path).st_mode & 0o4000:
        yield Finding("mount", FAIL, f"{path} has lost its set-user-id bit", f"chmod u+s {path}, or reinstall fuse3")
    else:
        yield Finding("mount", OK, f"{path} mounts for ordinary users")
    if may_allow_other():
        yield Finding("allow_other", OK, "/etc/fuse.conf lets you open your mounts to other users")
    else:
        cure = "add the line user_allow_other to /etc/fuse.conf if others must read them"
        yield Finding("allow_other", WARN, "your mounts can be read by yourself only", cure)


def _has_capability(number: int) -> bool:
    with open("/proc/self/status") as file:
        mask = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
    return bool(mask >> number & 1)


def _read_ahead() -> Finding:
    directory = "/sys/class/bdi"
    names = os.listdir(directory) if os.path.isdir(directory) else []
    if any(os.access(f"{directory}/{name}/read_ahead_kb", os.W_OK) for name in names):
        return Finding("read-ahead", OK, "can be raised")
    return Finding("read-ahead", WARN, "stays at 128 KiB, which slows reading in sequence", "mount as root, with /sys writable")


def _limits() -> Iterator[Finding]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    shown = "unlimited" if files == resource.RLIM_INFINITY else str(files)
    if files != resource.RLIM_INFINITY and files < ENOUGH_FILES:
        cure = f"raise it to {ENOUGH_FILES} or more (ulimit -Hn, LimitNOFILE=)"
        yield Finding("open files", WARN, f"hard limit {shown}: fewer containers are kept open", cure)
    else:
        yield Finding("open files", OK, f"hard limit {shown}")
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    yield Finding(
        "locked memory",
        OK,
        f"hard limit {'unlimited' if locked == resource.RLIM_INFINITY else format_size(locked)} (none is needed)",
    )


def _memory() -> Finding:
    limit = memory_limit_bytes()
    if limit is None:
        return Finding("memory limit", OK, "none")
    if limit < PROCESS_MEMORY_BYTES + 64 * MIB:
        cure = f"raise it to {format_size(PROCESS_MEMORY_BYTES + 64 * MIB)} or more, and use no MEM tier"
        return Finding("memory limit", WARN, f"{format_size(limit)} leaves next to nothing for a MEM tier", cure)
    return Finding(
        "memory limit", OK, f"{format_size(limit)}; a MEM tier may have up to {format_size(limit - PROCESS_MEMORY_BYTES)} of it"
    )


def check_tiers(tiers: list[TierRequest]) -> Iterator[Finding]:
    """Check that each tier's directory can be written and holds its quota."""
    if not tiers:
        yield Finding("tiers", WARN, "none: nothing is cached", "leave --tier none out, or name a directory")
        return
    if not any(tier.medium is Medium.MEM or tier.base.startswith("/dev/shm") for tier in tiers):
        yield Finding(
            "tiers",
            WARN,
            "no tier in memory",
            "give /dev/shm more room (docker run --shm-size), or name a tmpfs: --tier PATH:QUOTA",
        )
    for tier in tiers:
        yield _tier(tier)
    try:
        check_quotas([(tier, file_system_of(existing_ancestor(tier.base))) for tier in tiers])
    except (CacheError, OSError) as error:
        yield Finding("quotas", FAIL, str(error), "lower the quotas")


def _tier(tier: TierRequest) -> Finding:
    name = f"tier {tier.base}"
    where = existing_ancestor(tier.base)
    if os.path.lexists(tier.base) and where != tier.base:
        return Finding(name, FAIL, "is not a directory", "name a directory")
    if tier.own_directory is None and where not in (tier.base, os.path.dirname(tier.base)):  # as `mount` has it
        return Finding(name, FAIL, "does not exist, nor does its parent", "create it, or mount its disk")
    try:
        system = file_system_of(where)
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"x")
    except OSError as error:
        return Finding(
            name, FAIL, f"cannot be written: {error.strerror}", "use a directory that you may write, on a disk that is not full"
        )
    medium = tier.medium or system.medium
    text = f"{medium} on {system.fstype}, quota {format_size(tier.quota_bytes)}, free {format_size(system.free_bytes)}"
    if system.free_bytes < min(SMALL_FREE_BYTES, tier.quota_bytes):
        return Finding(name, WARN, f"{text}: nearly full", "free some space; a full tier caches nothing")
    return Finding(name, OK, text)


def _remains(run_base: str) -> Iterator[Finding]:
    records = list_mounts(run_base)
    dead = [record for record in records if not record.is_supervised]
    for record in dead:
        yield Finding("mounts", WARN, f"the supervisor of {record.mountpoint} died", f"fusecache umount {record.mountpoint}")
    if not dead:
        yield Finding("mounts", OK, f"{len(records)} mounted, none dead")
