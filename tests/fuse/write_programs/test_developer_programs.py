"""git, pip, tar and rsync on mounts that may be written."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.plain_store import tree_of
from tests.support.written_place import WrittenPlace

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

GIT = (
    "env", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org",
    "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org", "git", "-c", "safe.directory=*", "-c", "init.defaultBranch=main",
)  # fmt: skip


def make_tree(directory: Path, files: int, seed: int = 1) -> dict[str, str]:
    """Write small files in directories of 30, with modes and times of their own; return what `tree_of` says."""
    chance = random.Random(seed)
    for number in range(files):
        path = directory / f"dir{number // 30}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice((0, 10, 500, 3000, 9000))))
        path.chmod(chance.choice((0o644, 0o600, 0o755)))
        os.utime(path, ns=(0, chance.randrange(10**18, 17 * 10**17)))
    return tree_of(directory)


@pytest.mark.requires("git")
def test_git_begins_a_repository(place: WrittenPlace) -> None:
    place.run("mkdir", "repository")
    git = (*GIT, "-C", "repository")
    place.run(*git, "init", "-q")
    for number in range(3):
        place.shell(f"cd repository; mkdir -p src; seq {100 + number} > src/file{number}; echo {number} >> log")
        place.run(*git, "add", ".")
        place.run(*git, "commit", "-q", "-m", f"commit {number}")
    assert place.run(*git, "status", "--porcelain") == ""
    place.shell("cd repository; echo changed >> src/file1; rm src/file2")
    assert place.run(*git, "status", "--porcelain").split() == ["M", "src/file1", "D", "src/file2"]
    place.run(*git, "stash", "-q")
    place.run(*git, "checkout", "-q", "-b", "branch", "HEAD~1")
    place.run(*git, "mv", "src/file0", "src/moved")
    place.run(*git, "commit", "-q", "-m", "on a branch")
    place.run(*git, "checkout", "-q", "main")
    place.run(*git, "merge", "-q", "-m", "together", "branch")
    place.run(*git, "stash", "pop", "-q")
    place.run(*git, "reset", "-q", "--hard")
    assert place.run(*git, "status", "--porcelain") == ""
    assert place.run(*git, "log", "--oneline").count("\n") == 5
    place.run(*git, "gc", "-q")
    place.run(*git, "fsck", "--strict")
    stored = place.assert_stored("repository")
    assert {"log", "src/moved", "src/file1", "src/file2"} <= set(stored)
    assert not [name for name in stored if name.endswith(".lock") or "tmp_" in name]


@pytest.mark.requires("git")
def test_git_clones(place: WrittenPlace, disk_path: Path) -> None:
    """From a repository elsewhere onto the mount, and from there to another place on it and away from it."""
    original = disk_path / "original"
    make_tree(original, 30)

    def git(*arguments: str) -> None:
        subprocess.run([*GIT, *arguments], cwd=original, check=True, timeout=60, capture_output=True)

    git("init", "-q")
    for number in range(2):
        (original / "last").write_text(f"{number}\n")
        git("add", ".")
        git("commit", "-q", "-m", f"commit {number}")
    place.run(*GIT, "clone", "-q", f"file://{original}", "clone")
    place.run(*GIT, "clone", "-q", "--no-hardlinks", "clone", "second")
    place.run(*GIT, "clone", "-q", f"{place.directory / 'second'}", f"{disk_path / 'away'}")
    expected = {name: digest for name, digest in tree_of(original).items() if not name.startswith(".git")}
    for name in ("clone", "second"):
        assert place.run(*GIT, "-C", name, "status", "--porcelain") == ""
        place.run(*GIT, "-C", name, "fsck", "--strict")
        stored = place.assert_stored(name)
        assert {path: digest for path, digest in stored.items() if not path.startswith(".git")} == expected
    away = tree_of(disk_path / "away")
    assert {path: digest for path, digest in away.items() if not path.startswith(".git")} == expected


def make_wheel(directory: Path) -> Path:
    """Write a wheel with a package of a few modules, data and a console script."""
    files = {f"thirty/module{number}.py": f"VALUE = {number}\n" for number in range(8)}
    files["thirty/__init__.py"] = "from thirty.module7 import VALUE\n"
    files["thirty/data/table.csv"] = "a,b\n1,2\n" * 1000
    info = "thirty-1.0.dist-info"
    files[f"{info}/METADATA"] = "Metadata-Version: 2.1\nName: thirty\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = "[console_scripts]\nthirty = thirty:VALUE\n"
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    path = directory / "thirty-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def test_pip_installs(place: WrittenPlace, disk_path: Path) -> None:
    wheel = make_wheel(disk_path)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "install",
        "--no-index",
        "--no-deps",
        "-q",
    )
    place.run("env", "HOME=/nowhere", *pip, "--root-user-action=ignore", "--target", "site", str(wheel))
    program = "import thirty, pathlib; print(thirty.VALUE, thirty.__file__)"
    value, path = place.run("env", "PYTHONPATH=site", sys.executable, "-c", program).split()
    assert value == "7"
    assert path == str(place.directory / "site" / "thirty" / "__init__.py")
    place.run("env", "HOME=/nowhere", *pip, "--root-user-action=ignore", "--upgrade", "--target", "site", str(wheel))
    stored = place.assert_stored("site")
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            if not name.endswith("RECORD"):
                assert stored[name] == hashlib.sha256(opened.read(name)).hexdigest()
    assert any("__pycache__" in name for name in stored)


@pytest.mark.timeout(3600)
def test_tar_unpacks_many_files(place: WrittenPlace, disk_path: Path, full_length: bool) -> None:
    count = 20_000 if full_length else 120  # ten minutes
    expected = make_tree(disk_path / "tree", count)
    with tarfile.open(disk_path / "tree.tar", "w") as archive:
        archive.add(disk_path / "tree", "tree")
    place.run("tar", "-xf", f"{disk_path / 'tree.tar'}", seconds=1800)
    place.run("tar", "-df", f"{disk_path / 'tree.tar'}", seconds=1800)  # contents, modes, owners and times
    place.run("diff", "-r", f"{disk_path / 'tree'}", "tree", seconds=1800)
    assert place.stored("tree") == expected
    place.run("tar", "-cf", "again.tar", "tree", seconds=1800)
    (disk_path / "again.tar").write_bytes(place.read("again.tar"))
    subprocess.run(["tar", "-df", disk_path / "again.tar"], cwd=disk_path, check=True, timeout=1800)
    place.run("rm", "-r", "tree", seconds=1800)
    assert set(place.assert_stored()) == {"again.tar"}


@pytest.mark.requires("rsync")
def test_rsync_twice(place: WrittenPlace, disk_path: Path) -> None:
    """The second time it finds nothing to do: sizes, times and modes are what it set."""
    tree = disk_path / "tree"
    expected = make_tree(tree, 40)
    place.run("rsync", "-a", f"{tree}/", "copy/")
    assert place.stored("copy") == expected
    again = ("rsync", "-a", "--itemize-changes", "--stats")
    second = place.run(*again, f"{tree}/", "copy/")
    assert "Number of regular files transferred: 0" in second
    assert not re.search(r"^[<>ch.*][fdLDS]", second, re.MULTILINE), second
    assert "Number of regular files transferred: 0" in place.run(*again, "--checksum", f"{tree}/", "copy/")
    (tree / "dir0" / "file3.txt").write_bytes(b"changed")
    (tree / "dir1" / "file35.txt").unlink()
    (tree / "dir1" / "new").write_bytes(b"new")
    third = place.run(*again, "--delete", f"{tree}/", "copy/")
    assert "Number of regular files transferred: 2" in third
    assert place.assert_stored("copy") == tree_of(tree)
    back = disk_path / "back"
    place.run("rsync", "-a", "copy/", f"{back}/")
    assert tree_of(back) == tree_of(tree)
    for path in tree.rglob("*.txt"):
        other = back / path.relative_to(tree)
        assert (path.stat().st_mtime_ns, path.stat().st_mode) == (other.stat().st_mtime_ns, other.stat().st_mode)


@pytest.mark.requires("rsync")
def test_rsync_in_place_and_with_partial_files(place: WrittenPlace, disk_path: Path) -> None:
    data = bytearray(random.Random(5).randbytes(6_000_000))
    (disk_path / "large").write_bytes(data)
    place.run("rsync", "-a", "--partial", f"{disk_path / 'large'}", ".")
    data[3_000_000:3_000_010] = b"0123456789"
    (disk_path / "large").write_bytes(data)
    os.utime(disk_path / "large", ns=(10**18, 10**18))  # rsync compares whole seconds
    place.run("rsync", "-a", "--inplace", "--no-whole-file", f"{disk_path / 'large'}", ".")
    assert place.read("large") == data
    (disk_path / "large").write_bytes(data + b"the end")
    place.run("rsync", "-a", "--append", f"{disk_path / 'large'}", ".")
    assert place.read("large") == data + b"the end"
    place.assert_stored()
