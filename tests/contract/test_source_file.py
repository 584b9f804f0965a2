"""The file source over a directory on disk and one on tmpfs, and what only a file system has: links, modes, special files."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.source.directory_stream import MAX_OPEN
from fusecache.source.file import FileSource
from fusecache.source.protocol import EntryKind
from fusecache.source.registry import open_source
from tests.contract.directory_world import directory_world
from tests.contract.source_suite import SourceSuite, SourceWorld, fails, list_all


class TestFile(SourceSuite):
    @pytest.fixture(params=["disk", "tmpfs"])
    def world(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceWorld]:
        where = "/dev/shm" if request.param == "tmpfs" else tmp_path
        with tempfile.TemporaryDirectory(prefix="fusecache-file-", dir=where) as name:
            root = Path(name) / "root"
            root.mkdir()
            yield directory_world(root, lambda: open_source(root.as_uri(), {}, {}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def source(root: Path) -> Iterator[FileSource]:
    source = FileSource(os.fsencode(root))
    yield source
    source.close()


def test_modes_owners_times_and_links(root: Path, source: FileSource) -> None:
    (root / "file").write_bytes(b"x")
    (root / "file").chmod(0o4751)
    os.utime(root / "file", ns=(1, 1_700_000_000_123_456_789))
    os.link(root / "file", root / "hard")
    (root / "soft").symlink_to("../outside/target")
    entries = {entry.name: entry for entry in list_all(source, b"")[0]}
    file, hard, soft = entries[b"file"], entries[b"hard"], entries[b"soft"]
    assert (file.mode, file.uid, file.gid, file.nlink) == (0o4751, os.getuid(), os.getgid(), 2)
    assert file.mtime_ns == 1_700_000_000_123_456_789
    assert file.file_id == hard.file_id != b""
    assert file.version == hard.version
    assert (soft.kind, soft.target, soft.size) == (EntryKind.SYMLINK, b"../outside/target", 17)
    assert source.stat(b"soft") == soft


def test_names_that_are_no_text(root: Path, source: FileSource) -> None:
    name = b"\xff\xfe\x80"
    (Path(os.fsdecode(os.fsencode(root) + b"/" + name))).write_bytes(b"bytes")
    assert [entry.name for entry in list_all(source, b"")[0]] == [name]
    assert source.read(name, source.stat(name).version, 1, 3) == b"yte"


def test_special_files_are_hidden_and_never_opened(root: Path, source: FileSource) -> None:
    os.mkfifo(root / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(root / "sock"))
    listener.close()
    entries, hidden, _ = list_all(source, b"")
    assert entries == []
    assert {(one.name, one.reason) for one in hidden} == {(b"fifo", "a fifo"), (b"sock", "a socket")}
    fails(ErrorKind.NOT_FOUND, lambda: source.stat(b"fifo"))
    fails(ErrorKind.STALE, lambda: source.read(b"fifo", b"0-0-0-0", 0, 1))  # would block for ever if it were opened


@pytest.mark.parametrize("path", [b"..", b"../secret", b"a/../../secret", b"/etc/passwd", b"a//b", b".", b"nul\0"])
def test_paths_that_lead_out_are_refused(root: Path, source: FileSource, path: bytes) -> None:
    (root.parent / "secret").write_bytes(b"secret")
    fails(ErrorKind.INVALID, lambda: source.stat(path))
    fails(ErrorKind.INVALID, lambda: source.list_page(path))
    fails(ErrorKind.INVALID, lambda: source.read(path, b"v", 0, 1))


def test_symbolic_links_are_never_followed(root: Path, source: FileSource) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    version = FileSource(os.fsencode(outside))
    right = version.stat(b"secret").version
    version.close()
    fails(ErrorKind.NOT_A_DIRECTORY, lambda: source.list_page(b"link"))
    fails(ErrorKind.NOT_A_DIRECTORY, lambda: source.stat(b"link/secret"))
    fails(ErrorKind.STALE, lambda: source.read(b"link/secret", right, 0, 6))
    fails(ErrorKind.STALE, lambda: source.read(b"file", right, 0, 6))


def test_a_writer_in_place_is_noticed(root: Path, source: FileSource) -> None:
    (root / "file").write_bytes(b"a" * (9 << 20))
    version = source.stat(b"file").version
    stream = iter(source.stream(b"file", version, 0, 9 << 20))
    assert bytes(next(stream)) == b"a" * (4 << 20)
    time.sleep(0.01)  # the clock of a file system moves in steps of up to 4 ms
    with (root / "file").open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"b")
    fails(ErrorKind.STALE, lambda: next(stream))


def test_a_listing_goes_on_after_its_cursor_was_dropped(root: Path, source: FileSource) -> None:
    names = {b"%05d-%s" % (number, b"n" * 40) for number in range(5000)}
    for name in names:
        (root / name.decode()).touch()
    first = source.list_page(b"", None, 100)
    assert len(first.entries) < 1000
    for _ in range(MAX_OPEN):  # pushes the cursor of the first listing out
        assert source.list_page(b"", None, 100).next_token is not None
    found = [entry.name for entry in first.entries]
    token = first.next_token
    while token is not None:
        page = source.list_page(b"", token, 100)
        assert source.list_page(b"", token, 100).entries == page.entries  # a repeated request gets the same page
        found += [entry.name for entry in page.entries]
        token = page.next_token
    assert len(found) == 5000
    assert set(found) == names


def test_a_directory_replaced_between_pages_is_stale(root: Path, source: FileSource) -> None:
    (root / "d").mkdir()
    for number in range(3000):
        (root / "d" / f"{number:04}").touch()
    token = source.list_page(b"d", None, 10).next_token
    source.list_page(b"d", token, 10)
    (root / "d").rename(root / "old")
    (root / "d").mkdir()
    fails(ErrorKind.STALE, lambda: source.list_page(b"d", token, 10))


@pytest.mark.root
def test_what_may_not_be_read_is_denied(root: Path) -> None:
    (root / "closed").mkdir(mode=0)
    (root / "file").write_bytes(b"x")
    (root / "file").chmod(0)
    for parent in (root, root.parent, root.parent.parent):
        parent.chmod(0o755)
    source = FileSource(os.fsencode(root))
    try:
        version = source.stat(b"file").version
        os.seteuid(65534)
        try:
            assert "chmod" in str(fails(ErrorKind.DENIED, lambda: source.list_page(b"closed")))
            fails(ErrorKind.DENIED, lambda: source.read(b"file", version, 0, 1))
        finally:
            os.seteuid(0)
    finally:
        source.close()


def test_places_that_are_no_directory(root: Path) -> None:
    (root / "file").touch()
    missing = fails(ErrorKind.NOT_FOUND, lambda: open_source(f"file://{root}/missing", {}, {}))
    assert str(missing) == f"file://{root}/missing does not exist; check the path, and whether its disk is mounted"
    fails(ErrorKind.INVALID, lambda: open_source(f"file://{root}/file", {}, {}))
    fails(ErrorKind.INVALID, lambda: open_source("file://host/share", {}, {}))
