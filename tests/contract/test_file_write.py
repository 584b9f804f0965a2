"""The writer of local directories."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.source.body import BufferBody
from fusecache.source.file import FileSource, open_source
from fusecache.source.posix_tree import UPLOAD_PREFIX
from fusecache.source.write_protocol import Metadata
from tests.contract.directory_world import directory_world
from tests.contract.source_suite import SourceWorld, fails
from tests.contract.writer_suite import WriterSuite, operation


class TestFileWriter(WriterSuite):
    @pytest.fixture
    def world(self, tmp_path: Path) -> SourceWorld:
        root = tmp_path / "root"
        root.mkdir()
        return directory_world(root, lambda: FileSource(os.fsencode(root)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def test_a_replaced_file_keeps_its_mode(root: Path) -> None:
    (root / "file").write_bytes(b"old")
    (root / "file").chmod(0o640)
    source = FileSource(os.fsencode(root))
    writer = source.open_writer()
    writer.put(b"file", BufferBody(b"new"), Metadata(), source.stat(b"file").version, operation())
    assert (root / "file").read_bytes() == b"new"
    assert (root / "file").stat().st_mode & 0o7777 == 0o640
    source.close()


def test_the_names_of_uploads_are_taken(root: Path) -> None:
    source = FileSource(os.fsencode(root))
    writer = source.open_writer()
    name = UPLOAD_PREFIX + b"mine"
    fails(ErrorKind.NOT_PERMITTED, lambda: writer.put(name, BufferBody(b""), Metadata(), None, operation()))
    (root / os.fsdecode(name)).write_bytes(b"left over")
    assert source.list_page(b"").entries == []
    fails(ErrorKind.NOT_FOUND, lambda: source.stat(name))
    source.close()


def test_links_are_not_followed_when_writing(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (outside / "file").write_bytes(b"precious")
    (root / "leaf").symlink_to(outside / "file")
    source = FileSource(os.fsencode(root))
    writer = source.open_writer()
    for path in (b"link/new", b"link/file"):
        with pytest.raises(Exception, match="link"):
            writer.put(path, BufferBody(b"x"), Metadata(), None, operation())
    fails(ErrorKind.EXISTS, lambda: writer.put(b"leaf", BufferBody(b"x"), Metadata(), None, operation()))
    with pytest.raises(Exception, match=r"\.\."):
        writer.put(b"../outside/file", BufferBody(b"x"), Metadata(), None, operation())
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_bytes() == b"precious"
    source.close()


def test_a_directory_that_may_not_be_written(root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everything")
    root.chmod(0o555)
    source = FileSource(os.fsencode(root))
    fails(ErrorKind.DENIED, source.open_writer().check)
    source.close()


def test_what_is_squashed_is_everybodys(root: Path) -> None:
    """A cache pod is nobody's: it cannot give a file to who writes it, and must not lose the file for that."""
    source = open_source(f"file://{root}", {"all_squash": "true"}, {})
    writer = source.open_writer()
    writer.put(b"file", BufferBody(b"bytes"), Metadata(0o640, 12_345, 12_345), None, operation())
    writer.put(b"program", BufferBody(b"bytes"), Metadata(0o755, 0, 0), None, operation())
    writer.make_directory(b"directory", Metadata(0o700, 0, 0))
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("file", "program", "directory")] == [0o666, 0o777, 0o777]
    assert (root / "file").stat().st_uid == os.geteuid()
    for entry in (*source.list_page(b"").entries, source.stat(b"file"), source.stat(b"")):
        assert (entry.mode, entry.uid, entry.gid) == (None, None, None)
    source.close()
