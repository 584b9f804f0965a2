"""The stubs in proto/ are what proto/generate.sh makes of the .proto files, and csi.proto is the one of the specification."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
STUBS = ("csi_pb2.py", "csi_pb2.pyi", "csi_pb2_grpc.py", "pluginregistration_pb2.py", "pluginregistration_pb2_grpc.py")


@pytest.mark.slow
def test_stubs_are_generated_from_the_specification(tmp_path: Path) -> None:
    copy = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", copy, ignore=shutil.ignore_patterns("__pycache__", "*_pb2*"))
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "csi").mkdir()
    (tmp_path / "csi" / "stubs").symlink_to("../proto")
    subprocess.run([copy / "generate.sh"], check=True, timeout=60)
    assert (copy / "csi_pb2.py").exists()
    differing = [name for name in STUBS if not filecmp.cmp(copy / name, ROOT / "proto" / name, shallow=False)]
    assert differing == []
