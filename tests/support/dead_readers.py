"""Processes that read an index: one that fills its table of readers and is killed, one that opens it and reads."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_FILL = """
import lmdb, os, signal, sys
from pathlib import Path
from fusecache.index.environment import Environment
env = Environment(Path(sys.argv[1]), writable=False)
snapshots = []
try:
    while True:
        snapshots.append(env._env.begin())
except lmdb.ReadersFullError:
    os.kill(os.getpid(), signal.SIGKILL)
"""
_READ = """
import sys
from pathlib import Path
from fusecache.index.environment import Environment
with Environment(Path(sys.argv[1]), writable=False).read():
    pass
"""


def fill_table_of_readers(index: Path) -> None:
    """Leave every slot of the table to a process that is dead."""
    assert _run(_FILL, index) == -signal.SIGKILL


def can_read(index: Path) -> bool:
    """Whether another process can open the index and read."""
    return _run(_READ, index) == 0


def _run(code: str, index: Path) -> int:
    return subprocess.run([sys.executable, "-c", code, str(index)], check=False, stderr=subprocess.DEVNULL, timeout=30).returncode
