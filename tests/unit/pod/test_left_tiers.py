"""What is removed of a cache directory, and what is not."""

from __future__ import annotations

from pathlib import Path

from fusecache.pod.left_tiers import remove_left_tiers


def test_tiers_of_others_go(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for directory in ("ssd-0a1b2c3d", "hdd-0", "ssd-ours", "ssd-ffff0000", "index", "blocks", "elsewhere"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "container").write_bytes(b"x")
    (tmp_path / "ssd-1").symlink_to(elsewhere)
    (tmp_path / "ssd-2").write_bytes(b"no directory")
    remove_left_tiers(str(tmp_path), frozenset({"ssd-ffff0000"}))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"ssd-ours", "ssd-ffff0000", "index", "blocks", "elsewhere", "ssd-1", "ssd-2"}
    assert (elsewhere / "container").exists()
