"""Removes caches that no pod has had for a while: their Datasets are gone, or cached by other nodes now. No one tells a node.

State: none; the time of a cache directory is when the last pod left it. What was written and is not in a store is never removed.
Used from one event loop; files are removed in a thread, after the directory was put aside.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from csi.mounting.inline_volumes import InlineVolumes
from csi.mounting.plan import NodeDirectories
from fusecache.contract.run_files import KEPT_DIR, STAGE_DIR

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 600.0


class UnusedCaches:
    def __init__(
        self, directories: NodeDirectories, inline: InlineVolumes, is_mounted: Callable[[str], bool], keep_seconds: float
    ) -> None:
        """`is_mounted`: whether a Dataset's id has volumes on this node. `keep_seconds`: 0 keeps caches for ever."""
        self._is_mounted = is_mounted
        self._cache = directories.state / "cache"
        self._aside = directories.state / "removed"
        self._inline = inline
        self._keep = keep_seconds
        self._complained: set[str] = set()

    async def watch(self) -> None:
        """Look at them for ever."""
        while self._keep:
            try:
                await self.look()
            except OSError as error:
                log.warning("unused caches are not removed: %s", error)
            await asyncio.sleep(min(self._keep / 4, LONGEST_PAUSE_SECONDS))

    async def look(self) -> None:
        """Remove what is unused for long enough, and what a driver before us did not get to remove. Raises: OSError."""
        self._aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in self._unused():
            log.info("the cache %s has had no pod for %.0f s: it is removed", directory.name, self._keep)
            directory.rename(self._aside / f"{directory.name}.{secrets.token_hex(4)}")
        for directory in list(self._aside.iterdir()):
            await asyncio.to_thread(shutil.rmtree, directory)

    def _unused(self) -> Iterator[Path]:
        for directory in list(self._cache.iterdir()) if self._cache.is_dir() else ():
            age = time.time() - directory.stat(follow_symlinks=False).st_mtime
            if age < self._keep or self._inline.has_source(str(directory)) or self._is_mounted(directory.name):
                continue
            unsaved = [name for name in (STAGE_DIR, KEPT_DIR) if _has_entries(directory / name)]
            if not unsaved:
                yield directory
            elif directory.name not in self._complained:
                self._complained.add(directory.name)
                log.warning("%s has files that programs wrote and no store has: it stays until somebody removes it", directory)


def _has_entries(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False
