"""A tier is never larger than its quota while readers fill it over and over (figure 13)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from tests.stress.conftest import make_files
from tests.support.mounted import Mounted
from tests.support.readers import Readers
from tests.support.small_disks import SmallDisk

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timeout(180), pytest.mark.timed]

QUOTA_BYTES = 64 << 20
ALLOWED = 1.02
LOOK_SECONDS = 0.1
# A look that took longer does not count: it was interrupted, and saw some files before they left and others after they had grown.
# On its own it takes 1 ms.
LONGEST_LOOK_SECONDS = 0.005


class Shape(NamedTuple):
    figure: str
    what: str
    small: int
    large: int
    access: str


SHAPES = {
    "segments": Shape("13", "small files in segments", 2600, 0, "openless"),
    "whole files": Shape("13a", "large files, open-less", 50, 12, "openless"),
    "passthrough": Shape("13b", "large files, passthrough", 50, 12, "passthrough"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_tier_stays_within_its_quota(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], shape: Shape
) -> None:
    seconds = 25.0 if full_length else 3.5
    truth = disk_path / "truth"
    size = make_files(truth, small=shape.small, large=shape.large, large_bytes=16 << 20)
    with (
        SmallDisk(disk_path / "disk", 512 << 20) as disk,
        Mounted(
            disk_path,
            [f"file://{truth}"],
            tiers=[f"{disk.path}:{QUOTA_BYTES >> 20}Mi"],
            arguments=["--access", shape.access],
        ) as mounted,
    ):
        readers = Readers(mounted.mountpoint, truth, seconds, ["random", "sequential"] * 4, drop_caches=0.002)
        try:
            with Watch(disk, Path(mounted.status()["tiers"][0]["path"])) as watch:
                seen = readers.collect()
        finally:
            readers.kill()
        metrics = mounted.metrics()
    evicted = int(metrics["fusecache_evicted_bytes_total"])
    assert watch.looks > (seconds if full_length else 0)  # beside other tests a look may take seconds
    assert evicted > QUOTA_BYTES / 2, "the tier was hardly ever full: the run proves nothing"
    promise(
        shape.figure,
        f"{len(readers)} readers fill a tier over and over, data {size / QUOTA_BYTES:.1f} times the quota: {shape.what}",
        f"peak of du {watch.peak_du / QUOTA_BYTES:.3f} of the quota, of df {watch.peak_df / QUOTA_BYTES:.3f}, "
        f"{watch.looks} looks, {evicted >> 20} MiB evicted, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong",
        "peak of du <= 1.02 of the quota (df also counts what was evicted while a reader had it open)",
    )
    seen.assert_clean()
    assert watch.peak_du <= ALLOWED * QUOTA_BYTES


class Watch:
    """Looks at what the files of a directory take (du), and at what their disk has given out (df): that counts removed files that
    somebody still has open."""

    def __init__(self, disk: SmallDisk, directory: Path) -> None:
        self.peak_du = self.peak_df = self.looks = 0
        self._disk = disk
        self._directory = directory
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="du")

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            self.peak_df = max(self.peak_df, self._disk.allocated_bytes)
            began = time.monotonic()
            allocated = allocated_below(self._directory)
            if time.monotonic() - began <= LONGEST_LOOK_SECONDS:
                self.peak_du = max(self.peak_du, allocated)
                self.looks += 1
            self._stop.wait(max(0.0, LOOK_SECONDS - (time.monotonic() - started)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()


def allocated_below(directory: Path) -> int:
    total = 0
    for place, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:  # it left meanwhile
                continue
    return total
