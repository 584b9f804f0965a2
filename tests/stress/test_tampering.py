"""Cached blocks are flipped, swapped, cut and removed: readers get the right bytes, fetched again (figures 7 and 8)."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.stress.conftest import make_files
from tests.support.cache_tampering import CacheTampering, drop_page_cache
from tests.support.mounted import Mounted

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

TIMEOUT = "200"
Keep = Callable[[str, str, str, str], None]


class Pass(NamedTuple):
    """What comparing the whole tree once cost."""

    differences: str
    failures: int  # checksum failures
    refetched: int  # bytes


def compare(mounted: Mounted, truth: Path, since: dict[str, Any] | None = None) -> Pass:
    """Read everything, with no page of it in memory, and compare. `since`: the status to count from (damage is looked for in
    idle time, too, so that some may be found before anybody reads it)."""
    drop_page_cache()
    before = since or mounted.status()
    done = subprocess.run(
        ["timeout", "-s", "KILL", TIMEOUT, "diff", "-r", str(truth), str(mounted.mountpoint)], capture_output=True, text=True
    )
    after = mounted.status()
    return Pass(
        "" if done.returncode == 0 else f"exit {done.returncode}: {done.stdout}{done.stderr}"[:2000],
        after["checksum_failures"] - before["checksum_failures"],
        after["remote_bytes"] - before["remote_bytes"],
    )


def make_truth(disk_path: Path, full_length: bool) -> tuple[Path, int]:
    truth = disk_path / "truth"
    size = make_files(truth, small=300 if full_length else 60, large=6 if full_length else 2, large_bytes=9 << 20)
    return truth, size


def mount_and_warm(disk_path: Path, truth: Path, access: str) -> Mounted:
    """Prefetch is off: it would fetch again what no reader has found damaged yet."""
    return Mounted(disk_path, [f"file://{truth}"], options={"access": access, "ttl": "3600", "prefetch": "false"})


def assert_healed(mounted: Mounted, truth: Path) -> None:
    again = compare(mounted, truth)
    assert again == Pass("", 0, 0), f"not everything was healed by the pass before: {again}"


@pytest.mark.parametrize("access", ["openless", "passthrough"])
def test_a_bit_flipped_in_every_cached_block(disk_path: Path, full_length: bool, promise: Keep, access: str) -> None:
    """With passthrough the flips are made while nobody has the files open: the kernel must not be handed a damaged file."""
    truth, size = make_truth(disk_path, full_length)
    with mount_and_warm(disk_path, truth, access) as mounted:
        mounted.run("warm", str(mounted.mountpoint))
        assert compare(mounted, truth) == Pass("", 0, 0)
        before = mounted.status()
        flipped = CacheTampering(mounted).flip_a_bit_in_each()
        seen = compare(mounted, truth, before)
        promise(
            "7" if access == "openless" else "7b",
            f"one bit flipped in every cached block ({access})",
            f"{flipped} of {flipped} blocks flipped; tree {'right' if not seen.differences else 'WRONG'} to the last byte, "
            f"{seen.failures} damages counted, {seen.refetched} of {size} bytes fetched again",
            "0 wrong, 0 EIO, 100 % fetched again and counted",
        )
        assert flipped > 50
        assert not seen.differences
        assert seen.failures >= flipped
        assert seen.refetched == size
        assert_healed(mounted, truth)


def test_blocks_that_lie_in_each_others_place(disk_path: Path, full_length: bool, promise: Keep) -> None:
    """Each block alone is whole and once had a right checksum: only identity, offset and version tell that it is the wrong
    one."""
    truth, size = make_truth(disk_path, full_length)
    old = truth / "large-0"
    with mount_and_warm(disk_path, truth, "openless") as mounted:
        mounted.run("warm", str(mounted.mountpoint))
        tampering = CacheTampering(mounted)
        old_inode = inode_of(mounted, "large-0")
        replaced = {block: tampering.read(extent) for inode, block, extent in tampering.blocks() if inode == old_inode}
        replacement = old.with_suffix(".new")
        replacement.write_bytes(random.Random(9).randbytes(old.stat().st_size))
        replacement.rename(old)
        mounted.run("refresh", str(mounted.mountpoint))
        mounted.run("warm", str(mounted.mountpoint))

        older = own = others = 0
        before = mounted.status()
        new_inode, other_inode = inode_of(mounted, "large-0"), inode_of(mounted, "large-1")
        blocks = tampering.blocks()
        for inode, block, extent in blocks:
            if inode == new_inode:
                tampering.write(extent, replaced[block][: extent.length])
                older += 1
        within = [extent for inode, _, extent in blocks if inode == other_inode]
        for one, other in zip(within[:-1:2], within[1::2], strict=False):
            tampering.swap(one, other)
            own += 2
        small = [extent for inode, _, extent in blocks if inode not in (old_inode, new_inode, other_inode)]
        for one, other in zip(small[:-1:2], small[1::2], strict=False):
            tampering.swap(one, other)
            others += 2
        seen = compare(mounted, truth, before)
        promise(
            "8",
            "whole blocks in each other's place",
            f"{older} blocks of an older version, {own} swapped within an object, {others} with another object's; tree "
            f"{'right' if not seen.differences else 'WRONG'} to the last byte, {seen.failures} damages counted, "
            f"{seen.refetched} bytes fetched again",
            "0 wrong, 0 EIO, fetched again and counted",
        )
        assert older >= 8
        assert own >= 6
        assert others >= 20
        assert not seen.differences
        assert seen.failures >= older + own + others
        assert seen.refetched >= 0.9 * size
        assert_healed(mounted, truth)


@pytest.mark.parametrize("harm", ["truncated", "emptied", "zeroed", "removed", "grown"])
def test_containers_that_are(disk_path: Path, full_length: bool, promise: Keep, harm: str) -> None:
    if not full_length and harm in ("emptied", "grown"):
        pytest.skip("runs with --full-length")
    truth, size = make_truth(disk_path, full_length)
    with mount_and_warm(disk_path, truth, "passthrough" if harm in ("zeroed", "truncated") else "openless") as mounted:
        mounted.run("warm", str(mounted.mountpoint))
        containers = CacheTampering(mounted).containers()
        before = mounted.status()
        for path in containers:
            do_harm(path, harm)
        seen = compare(mounted, truth, before)
        promise(
            "8" + "bcdef"[["truncated", "emptied", "zeroed", "removed", "grown"].index(harm)],
            f"every container {harm}",
            f"{len(containers)} of {len(containers)} containers; tree {'right' if not seen.differences else 'WRONG'} to the last "
            f"byte, {seen.failures} damages counted, {seen.refetched} of {size} bytes fetched again",
            "0 wrong, 0 EIO",
        )
        assert len(containers) >= 3
        assert not seen.differences
        if harm != "grown":
            assert seen.failures > 0
            assert seen.refetched >= 0.4 * size
        assert_healed(mounted, truth)


def do_harm(path: Path, harm: str) -> None:
    size = path.stat().st_size
    if harm == "removed":
        path.unlink()
        return
    with path.open("r+b") as file:
        if harm == "truncated":
            file.truncate(size // 2)
        elif harm == "emptied":
            file.truncate(0)
        elif harm == "zeroed":
            file.write(bytes(size))
        else:
            file.truncate(size + 5000)


def inode_of(mounted: Mounted, name: str) -> int:
    return int(subprocess.run(["stat", "-c", "%i", str(mounted.mountpoint / name)], capture_output=True, check=True).stdout)
