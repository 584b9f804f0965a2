"""Directories of cache pods at the paths of pods: what is written down of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from csi.errors import RpcError, refused
from csi.mounting import binds
from csi.mounting.inline_volumes import InlineVolumes
from csi.mounting.node_places import NodePlaces
from csi.mounting.paths import Place, Roots
from csi.mounting.plan import NodeDirectories
from csi.volumes.inline import Directory, InlineVolume, MountAttributes, TierPlace

pytestmark = pytest.mark.root

VOLUME = InlineVolume(Directory.CACHE, "team", "demo", MountAttributes(tiers=(TierPlace("blocks"),)))


def test_a_bind_that_failed_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory was taken for one that a pod has, and its cache was never removed."""
    directories = NodeDirectories(tmp_path / "state")

    def made() -> InlineVolumes:
        return InlineVolumes(directories, tmp_path / "custody", Roots([str(tmp_path)]), NodePlaces(directories))

    def fail(fd: int, shown: str, place: Place, *, read_only: bool) -> None:
        raise refused("no room for another mount")

    (tmp_path / "pods").mkdir()
    monkeypatch.setattr(binds, "bind_directory", fail)
    volumes, target = made(), str(tmp_path / "pods" / "a")
    with pytest.raises(RpcError, match="no room"):
        volumes.publish("v", VOLUME, target, read_only=False)
    source = str(directories.cache(VOLUME.id))
    assert Path(source).is_dir()
    for one in (volumes, made()):
        assert target not in one
        assert not one.has_source(source)
