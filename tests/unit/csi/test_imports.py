"""What a node carries in memory."""

from __future__ import annotations

import subprocess
import sys

from tests.support.mounted import ROOT

FOREIGN = ("httpx2", "kopf", "lightkube", "pydantic")


def test_a_node_knows_no_api_server() -> None:
    code = "import sys, csi.program; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert "csi.rpc.node" in done.stdout.split()
    assert not [name for name in done.stdout.split() if name.partition(".")[0] in FOREIGN]
