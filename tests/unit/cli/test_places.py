"""Where files lie, and that nobody else can reach them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusecache.cli.places import CreatedDirectories, make_private_directories, places_of
from fusecache.contract.errors import CacheError, ErrorKind


def test_places_follow_the_environment() -> None:
    places = places_of(1000, 1000, {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000"})
    assert (places.cache_home, places.run_base) == ("/home/u/.cache", "/run/user/1000/fusecache")
    assert places_of(1000, 1000, {"XDG_CACHE_HOME": "/c", "HOME": "/h"}).cache_home == "/c"
    assert places_of(1000, 1000, {"XDG_CACHE_HOME": "relative", "HOME": "/h"}).cache_home == "/h/.cache"
    assert places_of(1000, 1000, {"HOME": "/h"}).run_base == "/tmp/fusecache-1000"
    assert places_of(0, 0, {"XDG_RUNTIME_DIR": "/run/user/0"}).run_base == "/run/fusecache"
    assert places_of(0, 0, {}).cache_home == "/var/cache"
    with pytest.raises(CacheError, match="cache_dir"):
        places_of(987654, 1, {})


def test_each_mount_point_has_its_own_run_directory() -> None:
    places = places_of(0, 0, {})
    assert places.run_dir("/a") != places.run_dir("/b")
    assert places.run_dir("/a") == places.run_dir("/a")


def test_directories_are_private_and_can_be_undone(tmp_path: Path) -> None:
    created = CreatedDirectories()
    path = make_private_directories(str(tmp_path), ("fusecache-0", "id"), os.geteuid(), created)
    assert path == str(tmp_path / "fusecache-0" / "id")
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "fusecache-0").st_mode & 0o777 == 0o700
    Path(path, "file").touch()
    created.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_existed_before_is_not_undone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    created = CreatedDirectories()
    make_private_directories(str(tmp_path), ("mine", "id"), os.geteuid(), created)
    created.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(mode)
    with pytest.raises(CacheError, match="writable by others"):
        make_private_directories(str(tmp_path), ("d",), os.geteuid(), CreatedDirectories())


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").symlink_to("/tmp")
    with pytest.raises(CacheError, match="symbolic link"):
        make_private_directories(str(tmp_path), ("d",), os.geteuid(), CreatedDirectories())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.chown(tmp_path / "d", 12345, 12345)
    with pytest.raises(CacheError, match="belongs to uid 12345") as caught:
        make_private_directories(str(tmp_path), ("d",), 0, CreatedDirectories())
    assert caught.value.kind is ErrorKind.DENIED
    with pytest.raises(CacheError, match="belongs to uid 12345"):
        make_private_directories(str(tmp_path / "d"), ("e",), 0, CreatedDirectories())


def test_a_shared_base_must_be_sticky(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(CacheError, match="writable by everybody"):
        make_private_directories(str(tmp_path), ("d",), os.geteuid(), CreatedDirectories())
    tmp_path.chmod(0o1777)
    make_private_directories(str(tmp_path), ("d",), os.geteuid(), CreatedDirectories())
    tmp_path.chmod(0o700)


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="does not exist; create it") as caught:
        make_private_directories(str(tmp_path / "x"), ("d",), os.geteuid(), CreatedDirectories())
    assert caught.value.kind is ErrorKind.NOT_FOUND
