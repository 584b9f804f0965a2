"""A volume of the Dataset that cache_pod.py serves, as kubelet has it used on a node: staged, published, read, and given back."""

from __future__ import annotations

from pathlib import Path

from csi.stubs import csi_pb2
from tests.support.cache_pod import volume_of
from tests.support.csi_driver import CsiDriver, Mode
from tests.support.readers import Readers

MODE = Mode.MULTI_NODE_READER_ONLY


def use(node: CsiDriver, name: str = "demo", path: str = "") -> tuple[csi_pb2.Volume, str, Path]:
    """Stage and publish a volume of the Dataset."""
    volume = volume_of(name, path)
    staging = node.stage(volume, mode=MODE)
    return volume, staging, node.publish(volume, staging, f"consumer-{name}", mode=MODE)


def leave(node: CsiDriver, used: tuple[csi_pb2.Volume, str, Path]) -> None:
    volume, staging, target = used
    node.unpublish(volume, target)
    node.unstage(volume, staging)


def check(target: Path, truth: Path) -> None:
    Readers(target, truth, 1.0, ["random", "walk"]).collect().assert_clean()
