"""What a child does that was started before the mount was known (contract/process.py): it takes over log and lock. No state."""

from __future__ import annotations

import os
from collections.abc import Sequence


def adopt(fds: Sequence[int]) -> None:
    """Write to this log from now on, and hold the lock as long as we live: its descriptor stays open."""
    log, _lock = fds
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
