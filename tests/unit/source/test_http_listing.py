"""What a listing's text tells beside its links: sizes as far as it goes, times, and that a page is none."""

from __future__ import annotations

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.http_listing import looks_like_listing, parse_listing
from fusecache.source.http_version import HttpVersion, conditions

NGINX = b"""<html><head><title>Index of /d/</title></head><body><h1>Index of /d/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                                  14-Nov-2023 22:13                   -
<a href="big.bin">big.bin</a>                            14-Nov-2023 22:13                 12M
<a href="exact">exact</a>                                14-Nov-2023 22:13            12345678
</pre><hr></body></html>"""
APACHE = b"""<title>Index of /d</title><table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td><a href="big.bin"><img src="/i.gif"></a></td><td><a href="big.bin">big.bin</a></td>
<td align="right">2023-11-14 22:13  </td><td align="right">1.5K</td><td>&nbsp;</td></tr>
<tr><td><a href="/d/abs%20olute">x</a></td><td>2023-11-14 22:13  </td><td>  0 </td></tr></table>
<address>Apache at 10 M</address>"""
STAMP = 1_699_999_980_000_000_000  # 2023-11-14 22:13 UTC


def parse(body: bytes) -> dict[bytes, tuple[int, int]]:
    page = parse_listing(body, "text/html; charset=utf-8", "http://h/d/")
    assert page.hidden == []
    return {entry.name: (entry.size, entry.mtime_ns) for entry in page.entries}


def test_nginx() -> None:
    assert parse(NGINX) == {b"sub": (0, 0), b"big.bin": (12 << 20, STAMP), b"exact": (12345678, STAMP)}


def test_apache_with_icons_that_are_links() -> None:
    assert parse(APACHE) == {b"big.bin": (1536, STAMP), b"abs olute": (0, STAMP)}


def test_files_must_be_looked_up() -> None:
    assert all(entry.needs_stat for entry in parse_listing(APACHE, "text/html", "http://h/d/").entries)


@pytest.mark.parametrize(
    ("body", "kind"), [(b"data", "application/octet-stream"), (b"{}", "application/json"), (b"[1]", "application/json")]
)
def test_what_is_no_listing(body: bytes, kind: str) -> None:
    with pytest.raises(CacheError) as caught:
        parse_listing(body, kind, "http://h/d/")
    assert caught.value.kind is ErrorKind.UNSUPPORTED


def test_an_empty_directory_looks_like_one() -> None:
    assert looks_like_listing(b"<title>Index of /x/</title>")
    assert not looks_like_listing(b"<title>Welcome</title>")


def test_versions_and_their_conditions() -> None:
    strong = HttpVersion(5, '"a:b"', 7).encode()
    weak = HttpVersion(5, 'W/"a:b"', 0).encode()
    assert conditions(strong) == {"If-Match": '"a:b"'}
    assert conditions(weak) == {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    assert conditions(HttpVersion(5).encode()) == {}
    long = HttpVersion(5, '"' + "x" * 200 + '"', 7).encode()
    assert len(long) <= 96
    assert conditions(long) == {}
    assert len({strong, weak, long, HttpVersion(6, '"a:b"').encode(), HttpVersion(5, 'W/"a:b"', 1).encode()}) == 5
