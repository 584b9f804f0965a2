"""An image archive is what `docker save` writes: containerd checks the digests when it imports one."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

from tests.cluster_harness import image_archive


def test_config_and_layer_are_found_by_the_manifest(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    layer, archive = tmp_path / "layer.tar", tmp_path / "image.tar"
    image_archive.write_layer(layer, {"/bin/program": program})
    image_archive.write(archive, "localhost/test:1", layer, entrypoint=["/bin/program"], environment=["A=b"])
    with tarfile.open(archive) as file:
        contents = {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]
    (entry,) = json.loads(contents["manifest.json"])
    assert entry["RepoTags"] == ["localhost/test:1"]
    config = contents[entry["Config"]]
    assert entry["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    described = json.loads(config)
    (name,) = entry["Layers"]
    assert described["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(contents[name]).hexdigest()}"]
    assert described["config"] == {"Entrypoint": ["/bin/program"], "Env": ["A=b"]}
    with tarfile.open(layer) as file:
        (member,) = file.getmembers()
    assert (member.name, member.mode, member.size) == ("bin/program", 0o755, 4)
