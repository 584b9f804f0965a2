"""Processes that hold credentials leave no core and cannot be traced."""

from __future__ import annotations

import subprocess
import sys


def test_hardened_process_dumps_nothing() -> None:
    code = (
        "from fusecache.base.hardening import harden_process; harden_process(); import resource, ctypes;"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "(0, 0) 0\n"
