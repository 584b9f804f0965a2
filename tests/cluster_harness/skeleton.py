"""Writes the files and mount points of a box's root directory, before the box is made.

Programs and libraries are the machine's own, mounted read-only (`read_only_mounts`). /etc is not: it is put together here from
the few files that programs look up, so that nothing in a box can read the machine's secrets or change its configuration.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

SYSTEM_DIRECTORIES = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
MOUNT_POINTS = ("dev", "proc", "run", "sys", "etc/sysctl-shown")
WRITABLE = ("etc/cni/net.d", "etc/kubernetes", "home", "mnt", "opt", "root", "var/lib", "var/log", "var/cache")
COPIED_FROM_ETC = (
    "alternatives",  # iptables is a symbolic link into it
    "ca-certificates.conf",
    "ethertypes",
    "fuse.conf",
    "group",
    "iproute2",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "protocols",
    "services",
    "ssl/certs",
)
# What a kubelet demands of the kernel it runs on. It reads these in a box, and finds nothing to change.
KUBELET_SETTINGS = {
    "kernel.keys.root_maxbytes": "25000000",
    "kernel.keys.root_maxkeys": "1000000",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
}


def write(root: Path, host_name: str, hosts: dict[str, str], name_server: str, mount_points: Iterable[str]) -> None:
    """Make the root directory of a box.

    Args:
        hosts: name -> address, for /etc/hosts.
        name_server: for /etc/resolv.conf, which pods with `dnsPolicy: Default` get, too.
        mount_points: further directories that something is mounted on.
    """
    for name in (*MOUNT_POINTS, *WRITABLE, *(point.lstrip("/") for point in mount_points)):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(0o1777)
    _link_or_make_system_directories(root)
    _copy_etc(root / "etc")
    (root / "var/run").symlink_to("/run")
    etc = root / "etc"
    (etc / "hostname").write_text(f"{host_name}\n")
    (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in hosts.items())]
    (etc / "hosts").write_text("\n".join(lines) + "\n")
    (etc / "resolv.conf").write_text(f"nameserver {name_server}\n")
    (etc / "mtab").symlink_to("/proc/self/mounts")
    for name, value in KUBELET_SETTINGS.items():
        (etc / "sysctl-shown" / name).write_text(f"{value}\n")


def read_only_mounts() -> dict[str, str]:
    """Return source -> target of the machine's programs and libraries, as `root_file_system.enter` takes them."""
    return {
        f"/{name}": f"/{name}" for name in SYSTEM_DIRECTORIES if Path("/", name).is_dir() and not Path("/", name).is_symlink()
    }


def _link_or_make_system_directories(root: Path) -> None:
    """Most systems have /bin, /lib and so on as links into /usr; some have directories."""
    for name in SYSTEM_DIRECTORIES:
        on_machine = Path("/", name)
        if on_machine.is_symlink():
            (root / name).symlink_to(os.readlink(on_machine))
        elif on_machine.is_dir():
            (root / name).mkdir()


def _copy_etc(etc: Path) -> None:
    for name in COPIED_FROM_ETC:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, etc / name)  # follows links: os-release and localtime are some
