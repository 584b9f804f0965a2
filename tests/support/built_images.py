"""The project's two images, built from their Dockerfiles by scripts/images.sh into a directory that is removed afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fusecache.custody.mountinfo import read_mountinfo
from tests.support.mounted import ROOT

NAMES = ("fusecache-csi", "fusecache-fuse")
BUILD_SECONDS = 900.0
PUSH_SECONDS = 120.0
MISSING = 3  # exit code of the script where a program is not installed


class ImagesMissingError(Exception):
    """They cannot be built on this machine; says why."""


@contextlib.contextmanager
def built_images() -> Iterator[Path]:
    """Yield a directory of buildah's (below it `storage` and `run`). With FUSECACHE_TEST_IMAGES=DIR, that in which
    `scripts/images.sh DIR` has built them. Raises: ImagesMissingError."""
    if built := os.environ.get("FUSECACHE_TEST_IMAGES"):
        yield Path(built)
        return
    directory = Path(tempfile.mkdtemp(prefix="fusecache-test-images-", dir="/var/tmp"))
    try:
        done = subprocess.run([ROOT / "scripts" / "images.sh", directory], capture_output=True, text=True, timeout=BUILD_SECONDS)
        if done.returncode == MISSING:
            raise ImagesMissingError(done.stderr.strip())
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.split() == [f"localhost/{name}" for name in NAMES]
        yield directory
    finally:
        for entry in reversed(read_mountinfo()):  # of the storage driver
            if entry.mountpoint.startswith(f"{directory}/"):
                subprocess.run(["umount", "-l", entry.mountpoint], check=False, timeout=10)
        shutil.rmtree(directory)


def push(directory: Path, name: str, destination: str) -> None:
    """Write an image to a place that buildah knows: `docker-archive:FILE:NAME`, `docker://REGISTRY/NAME:TAG`."""
    command = ["buildah", "--root", str(directory / "storage"), "--runroot", str(directory / "run")]
    command += ["push", "--quiet", f"localhost/{name}", destination]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PUSH_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
