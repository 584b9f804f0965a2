"""The writer of local directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.source.body import BufferBody
from fusecache.source.file import FileSource
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
