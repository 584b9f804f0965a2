"""File systems of fsspec: memory through the whole suite; archives, chained, by what is in them."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.source.protocol import EntryKind
from fusecache.source.registry import open_source
from tests.contract.source_suite import SourceSuite, SourceWorld, content, fails, list_all
from tests.support.nginx import nginx


class TestMemory(SourceSuite):
    @pytest.fixture
    def world(self) -> Iterator[SourceWorld]:
        filesystem = fsspec.filesystem("memory")

        def key(path: bytes) -> str:
            return "/suite/" + path.decode("utf-8", "surrogateescape")

        yield SourceWorld(
            lambda: open_source("memory://suite", {}, {}),
            lambda path, body: filesystem.pipe_file(key(path), body),
            lambda path: filesystem.rm_file(key(path)),
        )
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm("/suite", recursive=True)


FILES = {"top": content(300_000, 1), "dir/inner": b"inner", "dir/sub/deep": content(9 << 20, 2)}


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in FILES.items():
            archive.writestr(name, body)
    for name, mode in (("x.tar", "w"), ("x.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:  # type: ignore[call-overload]
            for member, body in FILES.items():
                info = tarfile.TarInfo(member)
                info.size, info.mtime = len(body), 1_700_000_000
                tar.addfile(info, io.BytesIO(body))
    return tmp_path


@pytest.mark.parametrize("url", ["zip::file://{}/x.zip", "tar::file://{}/x.tar", "tar::file://{}/x.tar.gz"])
def test_archives(archives: Path, url: str) -> None:
    source = open_source(url.format(archives), {}, {})
    source.check()
    assert [(entry.name, entry.kind) for entry in list_all(source, b"")[0]] == [
        (b"dir", EntryKind.DIRECTORY),
        (b"top", EntryKind.FILE),
    ]
    assert [entry.name for entry in list_all(source, b"dir")[0]] == [b"inner", b"sub"]
    for name, body in FILES.items():
        entry = source.stat(name.encode())
        assert entry.size == len(body)
        assert b"".join(source.stream(name.encode(), entry.version, 0, entry.size)) == body
        assert source.read(name.encode(), entry.version, 2, 3) == body[2:5]
    fails(ErrorKind.NOT_FOUND, lambda: source.stat(b"missing"))
    assert source.capabilities.ranges == url.endswith("x.tar")
    source.close()


@pytest.mark.requires("nginx")
def test_an_archive_behind_a_web_server(archives: Path) -> None:
    with nginx(archives) as url:
        source = open_source(f"zip::{url}x.zip", {}, {})
        entry = source.stat(b"dir/inner")
        assert source.read(b"dir/inner", entry.version, 0, 5) == b"inner"
        source.close()


def test_part_of_an_archive(archives: Path) -> None:
    source = open_source(f"zip://dir::file://{archives}/x.zip", {}, {})
    assert [entry.name for entry in list_all(source, b"")[0]] == [b"inner", b"sub"]
    source.close()


@pytest.mark.parametrize(("url", "at"), [("tar::file://{}/dot.tar", "dir"), ("tar://dir::file://{}/dot.tar", "")])
def test_an_archive_of_the_current_directory(tmp_path: Path, url: str, at: str) -> None:
    """As `tar cf dot.tar .` writes it."""
    (tmp_path / "tree" / "dir" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "dir" / "file").write_bytes(b"inner")
    with tarfile.open(tmp_path / "dot.tar", "w") as tar:
        tar.add(tmp_path / "tree", ".")
    source = open_source(url.format(tmp_path), {}, {})
    source.check()
    assert [entry.name for entry in list_all(source, at.encode())[0]] == [b"file", b"sub"]
    path = f"{at}/file".strip("/").encode()
    assert source.read(path, source.stat(path).version, 0, 5) == b"inner"
    fails(ErrorKind.NOT_FOUND, lambda: source.stat(b"missing"))
    source.close()


def test_what_is_not_there(archives: Path) -> None:
    fails(ErrorKind.NOT_FOUND, lambda: open_source(f"zip::file://{archives}/missing.zip", {}, {}))
    source = open_source("memory://nowhere", {}, {})
    fails(ErrorKind.NOT_FOUND, source.check)
    source.close()
    (archives / "text.zip").write_bytes(os.urandom(100))
    fails(ErrorKind.UNAVAILABLE, lambda: open_source(f"zip::file://{archives}/text.zip", {}, {}))
