"""Paths are matched with mounts as text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusecache.cli.mount_lookup import find_by_request, find_mounted
from fusecache.contract.errors import CacheError, ErrorKind
from tests.support.scripted_mount import ScriptedMount


def test_the_longest_mount_point_wins(tmp_path: Path) -> None:
    with ScriptedMount(tmp_path, "/nowhere/a"), ScriptedMount(tmp_path, "/nowhere/a/b"):
        base = str(tmp_path)
        for path, mountpoint, relative in (
            ("/nowhere/a", "/nowhere/a", ""),
            ("/nowhere/a/", "/nowhere/a", ""),
            ("/nowhere/a/x/y", "/nowhere/a", "x/y"),
            ("/nowhere/a/b/x", "/nowhere/a/b", "x"),
            ("/nowhere/a/b/../x", "/nowhere/a", "x"),
            ("/nowhere/a/bc", "/nowhere/a", "bc"),
        ):
            found = find_mounted(path, base)
            assert (found.record.mountpoint, found.path) == (mountpoint, relative)
        groups = find_by_request(("/nowhere/a/x", "/nowhere/a/b", "/nowhere/a/y"), base)
        assert [(record.mountpoint, paths) for record, paths in groups] == [("/nowhere/a", ["x", "y"]), ("/nowhere/a/b", [""])]


def test_links_are_followed_only_if_the_text_matches_nothing(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mnt")
    with ScriptedMount(tmp_path / "run", str(tmp_path / "mnt")):
        found = find_mounted(str(tmp_path / "link" / "x"), str(tmp_path / "run"))
        assert (found.record.mountpoint, found.path) == (str(tmp_path / "mnt"), "x")


def test_relative_paths_and_names_that_are_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnt").mkdir()
    monkeypatch.chdir(tmp_path)
    with ScriptedMount(tmp_path / "run", str(tmp_path / "mnt")):
        assert find_mounted(os.fsdecode(b"mnt/\xff"), str(tmp_path / "run")).path == os.fsdecode(b"\xff")


def test_a_path_in_no_mount(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="is not in a fusecache mount") as caught:
        find_mounted("/nowhere", str(tmp_path))
    assert caught.value.kind is ErrorKind.NOT_FOUND
