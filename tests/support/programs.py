"""What brings a program or library that a test needs, mostly a Debian package. Owns no state; read by markers and fixtures."""

from __future__ import annotations

import ctypes.util
import os
import shutil

SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"  # not on an ordinary user's PATH

PACKAGES = {
    "apache2": "apache2-bin",
    "fio": "fio",
    "fusermount3": "fuse3",
    "ganesha.nfsd": "nfs-ganesha",
    "htcacheclean": "apache2-utils",
    "nginx": "nginx-light",
}
OTHERS = {"pjdfstest": "cargo install pjdfstest"}


def find_program(name: str) -> str | None:
    """Return the path of a program on PATH or in the system's sbin directories."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_DIRECTORIES)


def missing_program(*names: str) -> str | None:
    """Return why a test that needs these programs must be skipped, or None."""
    for name in names:
        if find_program(name) is None:
            cure = OTHERS.get(name) or f"Debian: apt install {PACKAGES.get(name, name)}"
            return f"{name} is not installed ({cure})"
    return None


def missing_library(name: str, package: str) -> str | None:
    """The same for a shared library, named as in `-lNAME`."""
    return None if ctypes.util.find_library(name) else f"lib{name} is not installed (Debian: apt install {package})"


def missing_fuse() -> str | None:
    """Return why nothing can be mounted here, or None."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    return missing_program("fusermount3") if os.geteuid() != 0 else None
