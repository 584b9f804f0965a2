from __future__ import annotations

import os
from pathlib import Path

from fusecache.custody.mountinfo import find_mount, is_mounted, parse_mountinfo, read_mountinfo, resolve_mountpoint

LINES = (
    b"27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    b"42 27 0:39 / /mnt/a\\040b\\134040\\012 ro,nosuid,nodev,relatime shared:7 master:2 - fuse.fusecache fusecache ro,user_id=0\n"
    b"43 27 0:40 / /mnt/b rw - fuse /dev/x\\011y rw\n"
)


def test_parses_escapes_optional_fields_and_options() -> None:
    root, ours, other = parse_mountinfo(LINES)
    assert (root.fstype, root.is_fuse) == ("ext4", False)
    assert ours.mountpoint == "/mnt/a b\\040\n"
    assert (ours.mount_id, ours.device, ours.connection, ours.fstype) == (42, "0:39", 39, "fuse.fusecache")
    assert {"ro", "nosuid", "user_id=0"} <= ours.options
    assert other.is_fuse
    assert other.source == "/dev/x\ty"


def test_reads_this_machine() -> None:
    root = find_mount("/")
    assert root is not None
    assert is_mounted("/", root.device)
    assert not is_mounted("/", "0:0")
    assert root in read_mountinfo()
    assert find_mount("/nothing/here") is None


def test_resolves_links_of_parents_and_of_the_last_component(tmp_path: Path) -> None:
    base = Path(os.path.realpath(tmp_path))
    (base / "real" / "place").mkdir(parents=True)
    (base / "link").symlink_to("real")
    (base / "last").symlink_to("link/place")
    (base / "loop").symlink_to("loop")
    assert resolve_mountpoint(str(base / "link" / "place")) == str(base / "real" / "place")
    assert resolve_mountpoint(str(base / "last")) == str(base / "real" / "place")
    assert resolve_mountpoint(str(base / "missing" / "..")) == str(base)
    assert resolve_mountpoint(str(base / "loop")) == str(base / "loop")
    assert resolve_mountpoint("/") == "/"
    assert resolve_mountpoint("/proc") == "/proc"  # mounted: not looked at
