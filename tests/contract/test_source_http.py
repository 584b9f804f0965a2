"""The HTTP source before real nginx, Apache and Python servers, and before one of our own that misbehaves on purpose."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.http import HttpSource
from fusecache.source.protocol import Entry, EntryKind
from fusecache.source.registry import open_source
from tests.contract.directory_world import directory_world, put_file
from tests.contract.source_suite import SourceSuite, SourceWorld, content, fails, list_all
from tests.support.apache import apache
from tests.support.nginx import nginx
from tests.support.python_http import python_http

DOTTED = (b".hidden", b"...")  # nginx leaves names with a leading dot out of its listings
SERVERS: dict[str, tuple[str, Callable[[Path], AbstractContextManager[str]], tuple[bytes, ...]]] = {
    "nginx": ("nginx", nginx, DOTTED),
    "nginx-json": ("nginx", lambda root: nginx(root, "autoindex_format json;"), (*DOTTED, b"tab\tand\x01")),
    "apache-table": ("apache2", apache, ()),
    "apache-fancy": ("apache2", lambda root: apache(root, "IndexOptions FancyIndexing NameWidth=*"), ()),
    "apache-plain": ("apache2", lambda root: apache(root, "IndexOptions None"), ()),
    "python": ("python3", python_http, ()),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("http") / "root"
    path.mkdir()
    for directory in (path, *path.parents[:4]):  # Apache's workers are not root
        if directory.stat().st_uid == os.getuid() and directory != Path("/tmp"):
            directory.chmod(0o755)
    return path


class HttpSuite(SourceSuite):
    """The suite before one server; subclasses name it."""

    server: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, root: Path) -> Iterator[str]:
        with SERVERS[cls.server][1](root) as url:
            yield url

    @pytest.fixture
    def world(self, root: Path, url: str) -> SourceWorld:
        return directory_world(root, lambda: open_source(url, {}, {}), SERVERS[self.server][2])

    def test_many_are_looked_up_at_once(self, world: SourceWorld, source: HttpSource, directory: bytes) -> None:
        paths = [directory + b"/%02d" % number for number in range(40)]
        for number, path in enumerate(paths):
            world.put(path, b"x" * (number * 1000))
        found = source.stat_many([*paths, directory + b"/missing", directory])
        assert [entry.size for entry in found[:40] if isinstance(entry, Entry)] == [number * 1000 for number in range(40)]
        assert isinstance(found[40], CacheError)
        assert found[40].kind is ErrorKind.NOT_FOUND
        assert isinstance(found[41], Entry)
        assert found[41].kind is EntryKind.DIRECTORY

    def test_names_that_are_no_text(self, world: SourceWorld, source: HttpSource, directory: bytes) -> None:
        if self.server in ("python", "nginx-json"):
            pytest.skip("this server mangles such names itself")
        world.put(directory + b"/\xff\xfe", b"bytes")
        assert [entry.name for entry in list_all(source, directory)[0]] == [b"\xff\xfe"]
        path = directory + b"/\xff\xfe"
        assert source.read(path, source.stat(path).version, 1, 3) == b"yte"

    def test_ranges_are_known_after_the_check(self, world: SourceWorld, source: HttpSource, directory: bytes) -> None:
        world.put(b"a-file-at-the-root", b"x")
        source.check()
        assert source.capabilities.ranges == (self.server != "python")


@pytest.mark.requires("nginx")
class TestNginx(HttpSuite):
    server = "nginx"


@pytest.mark.requires("nginx")
class TestNginxJson(HttpSuite):
    server = "nginx-json"


@pytest.mark.requires("apache2")
class TestApacheTable(HttpSuite):
    server = "apache-table"


@pytest.mark.requires("apache2")
class TestApacheFancy(HttpSuite):
    server = "apache-fancy"


@pytest.mark.requires("apache2")
class TestApachePlain(HttpSuite):
    server = "apache-plain"


class TestPython(HttpSuite):
    server = "python"


@pytest.mark.requires("nginx")
class TestNginxWithPassword:
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, root: Path) -> Iterator[str]:
        users = root.parent / "users"
        users.write_text("alice:{PLAIN}first\nbob:{PLAIN}second\n")
        users.chmod(0o644)
        with nginx(root, f'auth_basic "x"; auth_basic_user_file {users};') as url:
            put_file(root, b"file", b"x")
            yield url

    def test_without_credentials(self, url: str) -> None:
        source = open_source(url, {}, {})
        assert "password_file" in str(fails(ErrorKind.DENIED, source.check))
        source.close()

    def test_password_file_may_rotate(self, url: str, tmp_path: Path) -> None:
        user, password = tmp_path / "user", tmp_path / "password"
        user.write_text("alice\n")
        password.write_text("first\n")
        source = open_source(url, {"user_file": str(user), "password_file": str(password)}, {})
        source.check()
        password.write_text("wrong")
        fails(ErrorKind.DENIED, source.check)
        user.write_text("bob")
        password.write_text("second")
        source.check()
        source.close()

    def test_netrc(self, url: str, tmp_path: Path) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login alice password first\n")
        netrc.chmod(0o600)
        source = open_source(url, {}, {"NETRC": str(netrc)})
        source.check()
        source.close()


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers by the name asked for; `seen` lists the requests."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str, dict[str, str]]]] = []
    body = content(1000, "misbehaving")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.seen.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        getattr(self, "answer_" + self.path.strip("/").split("/")[0].replace("-", "_"), self.answer_list)()

    def answer_list(self) -> None:
        links = "".join(f'<a href="{href}">x</a>' for href in (
            "weak", "/evil", "/listing/absolute",
            "../listing/around", "http://elsewhere/x", "//elsewhere/y", "../up", "?C=N;O=D", "sub/deep", "a%2Fb", "%2e%2e", "",
            "javascript:alert(1)", "mailto:x@y", "#top", "weak", "dir/", "%00", "n" * 256, "&lt;amp&gt;&amp;",
        ))  # fmt: skip
        self.reply(200, links.encode(), {"Content-Type": "text/html"})

    def answer_weak(self) -> None:
        status, body, extra = self.ranged()
        self.reply(status, body, {"ETag": 'W/"tag"', "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT", **extra})

    def answer_wrong_range(self) -> None:
        self.reply(206, self.body[:10], {"ETag": '"tag"', "Content-Range": "bytes 5-14/1000"})

    def answer_whole(self) -> None:
        self.reply(200, self.body, {"ETag": '"tag"'})

    def answer_empty(self) -> None:
        self.reply(200, b"", {"ETag": '"tag"'})

    def answer_busy(self) -> None:
        self.reply(503, b"", {"Retry-After": "7"})

    def answer_metadata(self) -> None:
        self.reply(302, b"", {"Location": "http://169.254.169.254/latest/meta-data"})

    def answer_circle(self) -> None:
        self.reply(302, b"", {"Location": "/circle"})

    def answer_moved(self) -> None:
        self.reply(301, b"", {"Location": "/weak"})

    def answer_unsized(self) -> None:
        if "range" in self.headers or "Range" in self.headers:
            self.answer_weak()
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")

    def ranged(self) -> tuple[int, bytes, dict[str, str]]:
        asked = self.headers.get("Range")
        if asked is None:
            return 200, self.body, {}
        start, end = (int(part) for part in asked.removeprefix("bytes=").split("-"))
        return 206, self.body[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(self.body)}"}

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def misbehaving_url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def odd(misbehaving_url: str) -> Iterator[HttpSource]:
    source = open_source(misbehaving_url, {"ranges": "yes"}, {})
    assert isinstance(source, HttpSource)
    Misbehaving.seen.clear()
    yield source
    source.close()


STRONG = b's:1000:"tag"'


def test_only_links_one_component_down_count(odd: HttpSource) -> None:
    entries, hidden, _ = list_all(odd, b"listing")
    assert {entry.name for entry in entries} == {b"weak", b"absolute", b"around", b"dir", b"<amp>&"}
    assert sorted(one.name for one in hidden) == sorted([b"a/b", b"..", b"\0", b"n" * 256])
    fails(ErrorKind.INVALID, lambda: odd.stat(b"../up"))


def test_a_weak_tag_never_goes_into_if_match(odd: HttpSource) -> None:
    version = odd.stat(b"weak").version
    assert odd.read(b"weak", version, 10, 20) == Misbehaving.body[10:30]
    headers = Misbehaving.seen[-1][2]
    assert "if-match" not in headers
    assert headers["if-unmodified-since"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert headers["accept-encoding"] == "identity"


def test_wrong_answers_are_not_taken(odd: HttpSource) -> None:
    fails(ErrorKind.UNAVAILABLE, lambda: odd.read(b"wrong-range", STRONG, 0, 10))
    fails(ErrorKind.UNAVAILABLE, lambda: odd.read(b"empty", STRONG, 0, 10))
    assert odd.read(b"whole", STRONG, 500, 10) == Misbehaving.body[500:510]
    assert Misbehaving.seen[-1][2]["if-match"] == '"tag"'
    fails(ErrorKind.STALE, lambda: odd.read(b"whole", b's:1000:"other"', 500, 10))


def test_a_busy_server_says_when_to_come_back(odd: HttpSource) -> None:
    error = fails(ErrorKind.UNAVAILABLE, lambda: odd.stat(b"busy"))
    assert (error.retry_after_seconds, error.is_throttled) == (7, True)


def test_redirects_stay_on_the_host(odd: HttpSource) -> None:
    fails(ErrorKind.DENIED, lambda: odd.stat(b"metadata"))
    fails(ErrorKind.DENIED, lambda: odd.read(b"metadata", STRONG, 0, 1))
    fails(ErrorKind.DENIED, lambda: odd.list_page(b"metadata"))
    fails(ErrorKind.UNAVAILABLE, lambda: odd.stat(b"circle"))
    assert odd.stat(b"moved").size == 1000


def test_a_size_that_head_does_not_tell(odd: HttpSource) -> None:
    assert odd.stat(b"unsized").size == 1000


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://user:secret@h/", {}, "password_file"),
        ("http://h/?x=1", {}, "directory"),
        ("http://h/", {"read_timout": "3"}, "read_timeout"),
        ("http://h/", {"read_timeout": "soon"}, "duration"),
        ("http://h/", {"user": "x"}, "password_file"),
        ("http:///x", {}, "host"),
    ],
)
def test_what_cannot_be_opened(url: str, options: dict[str, str], words: str) -> None:
    error = fails(ErrorKind.INVALID, lambda: open_source(url, options, {}))
    assert words in str(error)
    assert "secret" not in str(error)


def test_a_server_that_is_not_there() -> None:
    source = open_source("http://127.0.0.1:9/", {}, {})
    fails(ErrorKind.UNAVAILABLE, source.check)
    source.close()
