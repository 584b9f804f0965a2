"""The power fails while files are written back: everything that was acknowledged is in the store afterwards, whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import cut_disk
from tests.support.cut_disk import CutDisk
from tests.support.mounted import Mounted, kill

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(bool(cut_disk.missing()), reason=cut_disk.missing()),
]

PROGRAM = Path(cut_disk.__file__).with_name("acknowledging_writer.py")
CUTS = int(os.environ.get("FUSECACHE_POWER_CUTS", "40"))  # at full length
WRITERS = 2
DISK_BYTES = 96 << 20
END_SECONDS = 60.0
LONGEST_SECONDS = 0.6  # of writing before a cut
TEMPORARY = ".fusecache-upload-"


@dataclass
class Told:
    """What a writer said: for each name what was acknowledged last, and what was begun after that."""

    acknowledged: dict[str, tuple[str, int]] = field(default_factory=dict)
    begun: dict[str, tuple[str, int]] = field(default_factory=dict)

    def read(self, text: str) -> None:
        for line in text.splitlines():
            try:
                message = json.loads(line)
            except ValueError:
                continue  # cut off
            if "begin" in message:
                self.begun[message["begin"]] = message["sha"], message["size"]
            elif "done" in message:
                self.acknowledged[message["done"]] = self.begun.pop(message["done"])


def cut_once(mounted: Mounted, disk: CutDisk, directory: str, seconds: float, seed: int) -> Told:
    """Mount, write, cut the power, and end everything as a power failure does."""
    mounted.mount()
    record = mounted.record()
    writers = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(mounted.mountpoint / directory), str(WRITERS * seed + number)],
            stdout=subprocess.PIPE,
            bufsize=0,  # else what was read with the first line is lost to `communicate`
        )
        for number in range(WRITERS)
    ]
    told = Told()
    try:
        for writer in writers:
            assert writer.stdout is not None
            told.read(writer.stdout.readline().decode())
        time.sleep(seconds)
        disk.cut()
        kill(record.supervisor.pid)
        for process in mounted.record().daemons:  # now, as a spare that came meanwhile would keep the old disk in use
            if process.is_alive:
                kill(process.pid)
        minor = record.device.partition(":")[2]
        with contextlib.suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
        for writer in writers:
            told.read(writer.communicate(timeout=END_SECONDS)[0].decode())
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    mounted.close()
    return told


def wrong_after(source: Path, told: Told) -> list[str]:
    """Return what is not in the store as it was acknowledged, and what is there and was never written so."""
    wrong = []
    for name in told.acknowledged.keys() | told.begun.keys():
        allowed = {known[0] for known in (told.acknowledged.get(name), told.begun.get(name)) if known is not None}
        data = (source / name).read_bytes() if (source / name).exists() else None
        if data is None:
            if name in told.acknowledged:
                wrong.append(f"{name} was acknowledged and is not there")
        elif hashlib.sha256(data).hexdigest() not in allowed:
            begun = told.begun.get(name)
            if name.startswith("append") and begun is not None and is_prefix_grown(data, told.acknowledged.get(name), begun[1]):
                continue
            wrong.append(f"{name}: {len(data)} bytes that nobody wrote; acknowledged: {told.acknowledged.get(name)}")
    return wrong


def is_prefix_grown(data: bytes, acknowledged: tuple[str, int] | None, most: int) -> bool:
    """Whether bytes are what was acknowledged and a part of what was being added to it."""
    size = 0 if acknowledged is None else acknowledged[1]
    if not size <= len(data) <= most:
        return False
    return acknowledged is None or hashlib.sha256(data[:size]).hexdigest() == acknowledged[0]


@pytest.mark.timeout(1500)
def test_the_power_is_cut_while_files_are_written_back(disk_path: Path, full_length: bool) -> None:
    cuts = CUTS if full_length else 2
    source = disk_path / "source"
    source.mkdir()
    chance = random.Random(1)
    acknowledged = unacknowledged = recovered = 0
    with CutDisk(disk_path, DISK_BYTES) as disk:
        options = {
            "cache_dir": str(disk.path / "cache"),
            "write_mode": "back",
            "write_back_delay": "200ms",
            "sync_listing": "false",
        }
        mounted = Mounted(disk_path, [f"file://{source}"], options=options, tiers=["none"], arguments=["--read-write"])
        try:
            for number in range(cuts):
                directory = f"d{number}"
                told = cut_once(mounted, disk, directory, LONGEST_SECONDS * chance.random(), number)
                disk.restore()
                for state in (disk.path / "cache").glob("*/boot_id"):
                    state.write_text("before the power cut")
                mounted.mount()
                with (Path(mounted.record().run_dir) / "log").open() as file:  # it goes with the mount
                    mounted.umount()  # waits for the uploads
                    log = file.read()
                recovered += log.count("was acknowledged before the end")
                wrong = wrong_after(source / directory, told)
                if wrong:
                    print(log)
                assert not wrong, f"cut {number}"
                assert not [name for name in os.listdir(disk.path / "cache") if name == "kept"]
                acknowledged += len(told.acknowledged)
                unacknowledged += len(told.begun)
                shutil.rmtree(source / directory, ignore_errors=True)
        finally:
            mounted.close()
    assert acknowledged > 3 * cuts, "too little was acknowledged: the run proves nothing"
    assert recovered, "no file was uploaded after a cut: the run proves nothing"
    print(
        f"{cuts} cuts, {acknowledged} files acknowledged, {recovered} uploaded afterwards, {unacknowledged} under way, none lost"
    )
