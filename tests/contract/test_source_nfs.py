"""The NFS source before a real nfs-ganesha, its restart included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source import libnfs
from fusecache.source.nfs import NfsSource
from fusecache.source.protocol import EntryKind
from fusecache.source.registry import open_source
from tests.contract.directory_world import directory_world, put_file
from tests.contract.source_suite import SourceSuite, SourceWorld, content, fails, list_all
from tests.support.ganesha import Ganesha, ganesha, missing_ganesha


def missing_nfs() -> str | None:
    try:
        libnfs.load()
    except CacheError as error:
        return str(error)
    return missing_ganesha()


pytestmark = pytest.mark.skipif(missing_nfs() is not None, reason=str(missing_nfs()))


@pytest.fixture(scope="module")
def root(run_directory: Path) -> Path:
    path = run_directory / "nfs" / "root"
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Ganesha]:
    with ganesha(root) as server:
        yield server


class TestNfs(SourceSuite):
    @pytest.fixture
    def world(self, root: Path, server: Ganesha) -> SourceWorld:
        return directory_world(root, lambda: open_source(server.url, {"vers": "4"}, {}))


@pytest.fixture
def source(server: Ganesha) -> Iterator[NfsSource]:
    source = open_source(server.url, {}, {})
    assert isinstance(source, NfsSource)
    yield source
    source.close()


def test_links_modes_and_special_files(root: Path, source: NfsSource) -> None:
    directory = root / "links"
    directory.mkdir()
    (directory / "file").write_bytes(b"x")
    (directory / "file").chmod(0o751)
    os.chown(directory / "file", 1234, 5678)
    os.link(directory / "file", directory / "hard")
    (directory / "soft").symlink_to("../target")
    os.mkfifo(directory / "fifo")
    (directory / os.fsdecode(b"\xff\xfe")).write_bytes(b"bytes")
    entries, hidden, _ = list_all(source, b"links")
    by_name = {entry.name: entry for entry in entries}
    assert sorted(by_name) == [b"file", b"hard", b"soft", b"\xff\xfe"]
    assert [(one.name, one.reason) for one in hidden] == [(b"fifo", "a fifo")]
    file, hard, soft = by_name[b"file"], by_name[b"hard"], by_name[b"soft"]
    assert (file.mode, file.uid, file.gid, file.nlink) == (0o751, 1234, 5678, 2)
    assert file.file_id == hard.file_id != b""
    assert (soft.kind, soft.target, soft.size) == (EntryKind.SYMLINK, b"../target", 9)
    assert source.stat(b"links/soft") == soft
    fails(ErrorKind.NOT_FOUND, lambda: source.stat(b"links/fifo"))


def test_symbolic_links_are_not_opened(root: Path, source: NfsSource) -> None:
    put_file(root, b"plain", b"plain")
    (root / "to-plain").symlink_to("plain")
    version = source.stat(b"plain").version
    fails(ErrorKind.STALE, lambda: source.read(b"to-plain", version, 0, 1))


def test_a_listing_goes_on_after_its_cursor_was_dropped(root: Path, source: NfsSource) -> None:
    (root / "many").mkdir()
    for number in range(300):
        (root / "many" / f"{number:03}").touch()
    first = source.list_page(b"many", None, 100)
    for _ in range(20):
        source.list_page(b"many", None, 1)
    rest = source.list_page(b"many", first.next_token, 1000)
    assert rest.next_token is None
    assert len(first.entries) == 100
    assert len({entry.name for entry in first.entries + rest.entries}) == 300


def test_a_server_that_restarts(root: Path) -> None:
    put_file(root, b"kept", content(3 << 20, 1))
    with ganesha(root) as server:
        source = open_source(server.url, {}, {})
        version = source.stat(b"kept").version
        assert source.read(b"kept", version, 5, 10) == content(3 << 20, 1)[5:15]
    fails(ErrorKind.UNAVAILABLE, lambda: source.read(b"kept", version, 5, 10))
    with ganesha(root, server.port):
        assert source.read(b"kept", version, 2 << 20, 10) == content(3 << 20, 1)[2 << 20 : (2 << 20) + 10]
        source.close()


def test_exports_that_are_not_there(server: Ganesha) -> None:
    for url, kind in ((server.url + "/missing", ErrorKind.NOT_FOUND), ("nfs://127.0.0.1:9/exp", ErrorKind.UNAVAILABLE)):
        source = open_source(url, {"vers": "4"}, {})
        fails(kind, source.check)
        source.close()


def test_a_client_without_rights_is_denied(root: Path, server: Ganesha) -> None:
    (root / "closed").mkdir(mode=0o700)
    source = open_source(server.url, {"uid": "12345", "gid": "12345"}, {})
    fails(ErrorKind.DENIED, lambda: source.list_page(b"closed"))
    source.close()


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("nfs://host", {}, "export"),
        ("nfs:///export", {}, "host"),
        ("nfs://host/export", {"vers": "2"}, "vers"),
        ("nfs://host/export", {"rzise": "1"}, "rsize"),
    ],
)
def test_what_cannot_be_opened(url: str, options: dict[str, str], words: str) -> None:
    assert words in str(fails(ErrorKind.INVALID, lambda: open_source(url, options, {})))


def test_mount_options_of_the_kernel_are_taken() -> None:
    options = {"nolock": "", "hard": "", "nfsvers": "4.1", "timeo": "600", "rsize": "1048576", "proto": "tcp"}
    source = open_source("nfs://host:/export/sub/", options, {})
    assert source.url == "nfs://host/export/sub"
    source.close()
