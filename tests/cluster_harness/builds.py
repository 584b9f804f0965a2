"""What is built once and kept: asks the scripts that own the cache and every version."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"
BUILD = SCRIPTS / "cluster" / "build.sh"
OF_CLUSTER = ("pause", "kubernetes", "coredns")  # what `up` needs; the rest is built when a test asks for it
BUILD_SECONDS = 3600.0


class BuildError(Exception):
    """Something could not be built; the reason is one line, or was printed already."""


def build(*names: str) -> dict[str, Path]:
    """Return name -> directory; builds what is missing, which may take minutes, and says so. Raises: BuildError."""
    done = subprocess.run([BUILD, *names], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, timeout=BUILD_SECONDS)
    if done.returncode != 0:
        raise BuildError(f"{BUILD.name} {' '.join(names)} failed")
    lines = (line.split(" ", 1) for line in done.stdout.splitlines())
    return {name: Path(directory) for name, directory in lines}


def missing(*names: str) -> list[str]:
    """Return what is not built yet."""
    done = subprocess.run([BUILD, "--missing", *names], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.split()


def program(name: str) -> Path:
    """Return the path of a program that is called as its build: helm, kubeconform, csi-attacher. Raises: BuildError."""
    return build(name)[name] / name


def base_layer() -> Path:
    """Return a tar file of the file system of the base image. Raises: BuildError."""
    done = subprocess.run(
        [SCRIPTS / "image_base.sh"], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, timeout=BUILD_SECONDS
    )
    if done.returncode != 0:
        raise BuildError("image_base.sh failed")
    return Path(done.stdout.strip())
