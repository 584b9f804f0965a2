"""Tiers that a Dataset had on this node and has no more: their blocks are in no index, and only take room. Stateless.

Called with the lock of the cache. Names are those that the operator gives (csi/operator/resolve/tiers.py), below the cache
directory: a tier that lies elsewhere is mounted there, and only if it is one of ours. The thread ends with the process; the
next pod goes on.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable

log = logging.getLogger(__name__)

_TIER = re.compile(r"(ssd|hdd)-[0-9a-f]{1,8}")


def start_removing(cache: str, ours: Iterable[str]) -> None:
    """Remove them beside everything else, and however long it takes. `ours`: names of the tiers that there are."""
    threading.Thread(target=remove_left_tiers, args=(cache, frozenset(ours)), daemon=True, name="left-tiers").start()


def remove_left_tiers(cache: str, ours: frozenset[str]) -> None:
    """Remove directories of tiers below the cache directory that are none of ours. What cannot be removed stays."""
    with os.scandir(cache) as entries:
        there = [entry for entry in entries if _TIER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    for entry in there:
        if entry.name not in ours:
            log.info("%s is of a tier that this pod does not have: it is removed", entry.path)
            shutil.rmtree(entry.path, ignore_errors=True)
