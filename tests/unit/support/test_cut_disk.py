"""The disk whose power can be cut."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cut_disk
from tests.support.cut_disk import CutDisk

pytestmark = [
    pytest.mark.root,
    pytest.mark.requires("unshare"),
    pytest.mark.skipif(bool(cut_disk.missing()), reason=cut_disk.missing()),
]

HOLD = "import time; print(flush=True); time.sleep(60)"


def test_restored_while_another_mount_namespace_holds_it(disk_path: Path) -> None:
    """As any program does that is started in a namespace of its own while the disk is there."""
    with CutDisk(disk_path, 16 << 20) as disk:
        kept = disk.path / "kept"
        kept.write_text("bytes")
        os.sync()
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", HOLD]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            disk.cut()
            disk.restore()
            assert kept.read_text() == "bytes"
            kept.write_text("others")
        finally:
            holder.kill()
            holder.communicate()
