"""csi/mounting/paths.py: nothing leads out of the allowed roots, whoever swaps directories for links meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import grpc
import pytest

from csi.errors import RpcError
from csi.mounting.paths import Roots


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    (path / "pod" / "volumes").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return path


@pytest.mark.parametrize(
    "path",
    [
        "", "relative", "/etc", "{root}/../outside/x", "{root}/pod/./x", "{root}", "{root}/", "{root}-2/x", "{root}/link/x",
        "{root}/link", "{root}/file", "{root}/file/x", "{root}/nul\0x", "{root}/" + "x" * 5000, "{root}/" + "x" * 300,
    ],
)  # fmt: skip
def test_what_is_refused(root: Path, path: str) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "file").write_text("")
    with pytest.raises(RpcError) as caught, Roots([str(root)]).place(path.replace("{root}", str(root)), "target_path") as place:
        os.close(place.make())
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT, caught.value
    assert list((root.parent / "outside").iterdir()) == []


def test_a_missing_parent_is_said_to_be_missing(root: Path) -> None:
    with pytest.raises(RpcError) as caught, Roots([str(root)]).place(f"{root}/none/target", "target_path"):
        pass
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_a_directory_is_made_found_and_removed(root: Path) -> None:
    with Roots([str(root)]).place(f"{root}//pod/volumes/target/", "target_path") as place:
        assert not place.exists()
        os.close(place.make())
        os.close(place.make())
        assert place.exists()
        assert (root / "pod" / "volumes" / "target").is_dir()
        place.remove()
        place.remove()
        assert not place.exists()


def test_a_root_may_be_reached_through_a_link(root: Path) -> None:
    link = root.parent / "kubelet"
    link.symlink_to(root)
    for path in (f"{link}/pod/target", f"{root}/pod/target"):
        with Roots([str(link)]).place(path, "target_path") as place:
            os.close(place.make())
    assert (root / "pod" / "target").is_dir()


@pytest.mark.slow
def test_directories_that_are_swapped_for_links_lead_nowhere(root: Path) -> None:
    """Whatever a call works on lies below the root, or the call is refused."""
    swapped, real, outside = root / "pod", root / "real", root.parent / "outside"
    (outside / "volumes").mkdir()
    swapped.rename(real)
    stop = threading.Event()

    def swap() -> None:
        link = root / "next"
        while not stop.is_set():
            for target in (real, outside):
                link.symlink_to(target)
                link.rename(swapped)
            swapped.unlink()
            with contextlib.suppress(OSError):
                real.rename(swapped)
                swapped.rename(real)

    thread = threading.Thread(target=swap)
    thread.start()
    allowed = refused = 0
    try:
        for _ in range(3000):
            try:
                with Roots([str(root)]).place(f"{swapped}/volumes/target", "target_path") as place:
                    fd = place.make()
                    try:
                        assert os.readlink(f"/proc/self/fd/{fd}").startswith(f"{root}/")
                        allowed += 1
                    finally:
                        os.close(fd)
            except RpcError:
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert refused
    assert list((outside / "volumes").iterdir()) == []
