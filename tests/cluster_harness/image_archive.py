"""Writes container images as files, in the format of `docker save`, which containerd, buildah and podman read.

A library of two functions without state. An image has one layer, which the caller has as a tar file.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
LAYER = "layer.tar"
CHUNK_BYTES = 1 << 20


def write(archive: Path, reference: str, layer: Path, entrypoint: Sequence[str] = (), environment: Sequence[str] = ()) -> None:
    """Write an image; in place once it is complete.

    Args:
        reference: "localhost/name:tag", under which it is found after the import.
        layer: the file system, as an uncompressed tar file.
        environment: lines "NAME=value".
    """
    config = json.dumps(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": list(environment)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": [LAYER]}]).encode()
    temporary = archive.with_name(archive.name + ".new")
    with tarfile.open(temporary, "w") as file:
        _add(file, "manifest.json", manifest)
        _add(file, config_name, config)
        file.add(layer, LAYER)
    temporary.rename(archive)


def write_layer(layer: Path, programs: dict[str, Path]) -> None:
    """Write a layer of programs only. Args: programs: name in the image -> file on this machine."""
    with tarfile.open(layer, "w") as file:
        for name, path in programs.items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = path.stat().st_size, 0o755
            with path.open("rb") as content:
                file.addfile(entry, content)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    file.addfile(entry, io.BytesIO(content))
