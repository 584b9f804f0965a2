"""Puts images where the cluster's registry (registry_server.py) finds them, and tells nodes of it: pods pull as elsewhere.

A library without state: everything is below the registry's directory in the control plane's box.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.cluster_harness.addresses import Addresses
from tests.cluster_harness.boxes import Box

PORT = 5000
DIRECTORY = "/var/lib/registry"
PROGRAM = "/etc/kubernetes/registry_server.py"
CHUNK_BYTES = 1 << 20
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def start(box: Box, addresses: Addresses) -> None:
    shutil.copy(Path(__file__).with_name("registry_server.py"), box.root / PROGRAM.lstrip("/"))
    box.start("registry", ["/usr/bin/python3", PROGRAM, DIRECTORY, addresses.control_plane, str(PORT)])


def hosts_file(addresses: Addresses) -> str:
    """Return containerd's `_default/hosts.toml`: whatever registry an image's name has, this one is asked."""
    return f'[host."http://{addresses.control_plane}:{PORT}"]\n  capabilities = ["pull", "resolve"]\n'


def publish(box: Box, archive: Path, tags: list[str] | None = None) -> list[str]:
    """Add the images of an archive (`docker save`, `buildah push NAME docker-archive:FILE`). Return the names they have now.

    Args:
        tags: names to give to it instead of its own; the archive has one image then.
    """
    root = box.root / DIRECTORY.lstrip("/")
    (root / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    published = []
    with tarfile.open(archive) as file:
        for image in json.load(_member(file, "manifest.json")):
            manifest = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _add(root, _member(file, image["Config"]), _CONFIG),
                "layers": [_add(root, _member(file, layer), _LAYER) for layer in image["Layers"]],
            }
            with tempfile.TemporaryFile() as content:
                content.write(json.dumps(manifest).encode())
                content.seek(0)
                digest = _add(root, content, _MANIFEST)["digest"]
            for name in tags or image["RepoTags"]:
                tag = root / "tags" / _path(name)
                tag.parent.mkdir(parents=True, exist_ok=True)
                tag.write_text(digest)
                published.append(name)
    return published


def _path(name: str) -> str:
    """Return HOST/NAME/TAG of an image's name, as containerd understands it."""
    rest, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    host, _, path = rest.partition("/")
    if not path:
        host, path = "docker.io", f"library/{rest}"
    elif not (set(".:") & set(host)) and host != "localhost":
        host, path = "docker.io", rest
    return f"{host}/{path}/{tag}"


def _member(file: tarfile.TarFile, name: str) -> IO[bytes]:
    found = file.extractfile(name)
    assert found is not None, f"{name} is no file"
    return found


def _add(root: Path, content: IO[bytes], kind: str) -> dict[str, Any]:
    """Store a blob and return its descriptor."""
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=root, delete=False) as file:
        for chunk in _chunks(content):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    os.rename(file.name, root / "blobs/sha256" / digest.hexdigest())
    return {"mediaType": kind, "digest": f"sha256:{digest.hexdigest()}", "size": size}


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(CHUNK_BYTES):
        yield chunk
