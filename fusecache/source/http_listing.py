"""Reads the directory listings of web servers: nginx (HTML and JSON), Apache (plain, fancy, table), Python's http.server.

Stateless; called by `http.HttpSource` from any thread. A link counts if it leads exactly one component below the directory on the
same host and has no query: sort links, parents, style sheets and footers fall away without knowing any server's layout.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import MAX_NAME_BYTES, Entry, EntryKind, Hidden, Page

_PLAIN_HREF = re.compile(r"[^/?#:\s\\][^/?#:\\]*/?")
_DATES = (
    (re.compile(r"\b(\d{2}-[A-Z][a-z]{2}-\d{4} \d{2}:\d{2})\b"), "%d-%b-%Y %H:%M"),  # nginx
    (re.compile(r"\b(\d{4}-\d{2}-\d{2} \d{2}:\d{2})\b"), "%Y-%m-%d %H:%M"),  # Apache
)
_SIZE = re.compile(r"\s(\d+(?:\.\d+)?)\s?([KMGT]?)i?B?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_listing(body: bytes, content_type: str, url: str) -> Page:
    """Return what a listing shows. Every file `needs_stat`: sizes are rounded, and no version is told.

    Args:
        url: of the listing, after redirects, with its trailing slash.
    Raises: UNSUPPORTED if it is neither HTML nor nginx's JSON.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    text = body.decode("utf-8", "surrogateescape")  # a raw byte of a name in another charset comes through
    if media_type == "application/json":
        rows = _json_rows(text, url)
    elif media_type in ("text/html", "application/xhtml+xml"):
        parser = _LinkParser(url)
        parser.feed(text)
        parser.close()
        rows = parser.rows
    else:
        message = f"{url} answered with {media_type or 'no content type'} instead of a directory listing; turn listings on there"
        raise CacheError(ErrorKind.UNSUPPORTED, message)
    return _page_of(rows)


def looks_like_listing(body: bytes) -> bool:
    """Tell an empty directory's listing from a page that is none."""
    return any(mark in body[:65536].lower() for mark in (b"index of", b"directory listing", b"parent directory"))


class _Row:
    """One link and the text up to the next one."""

    __slots__ = ("is_directory", "name", "text")

    def __init__(self, name: bytes, is_directory: bool) -> None:
        self.name = name
        self.is_directory = is_directory
        self.text = ""


class _LinkParser(HTMLParser):
    """Collects the links one component below the directory, each with what stands beside it."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[_Row] = []
        self._directory = _Directory(url)
        self._row: _Row | None = None
        self._is_in_link = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            return
        self._is_in_link = True
        self._row = None
        href = dict(attrs).get("href")
        child = self._directory.child(href) if href else None
        if child is not None:
            self._row = _Row(*child)
            self.rows.append(self._row)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._is_in_link = False
        elif tag == "tr":
            self._row = None

    def handle_data(self, data: str) -> None:
        if self._row is not None and not self._is_in_link and len(self._row.text) < 200:
            self._row.text += " " + data


class _Directory:
    """The URL of a listing, to compare links with."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._origin = (parts.scheme, parts.netloc)
        self._components = [unquote_to_bytes(part) for part in parts.path.split("/")[:-1]]

    def child(self, href: str) -> tuple[bytes, bool] | None:
        """Return the name a link leads to and whether it is a directory, or None if it leads elsewhere."""
        if _PLAIN_HREF.fullmatch(href) and href not in (".", "..", "./", "../"):
            return unquote_to_bytes(_raw(href.removesuffix("/"))), href.endswith("/")
        try:
            parts = urlsplit(urljoin(self._url, href))
        except ValueError:
            return None
        if (parts.scheme, parts.netloc) != self._origin or parts.query or "?" in href:
            return None
        components = [unquote_to_bytes(_raw(part)) for part in parts.path.split("/")]
        is_directory = components[-1] == b""
        if is_directory:
            components.pop()
        if len(components) != len(self._components) + 1 or components[:-1] != self._components:
            return None
        return components[-1], is_directory


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _json_rows(text: str, url: str) -> list[_Row]:
    """nginx `autoindex_format json`: exact sizes, HTTP dates, names as they are."""
    try:
        records = json.loads(text)
        if not isinstance(records, list):
            raise TypeError
        rows = []
        for record in records:
            row = _Row(_raw(record["name"]), record["type"] == "directory")
            seconds = calendar.timegm(time.strptime(record["mtime"], "%a, %d %b %Y %H:%M:%S GMT"))
            stamp = time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
            row.text = f"{stamp} {record.get('size', '')}"
            rows.append(row)
    except (ValueError, TypeError, KeyError, UnicodeEncodeError) as error:
        message = f"{url} answered with JSON that is no directory listing of nginx; turn autoindex on there"
        raise CacheError(ErrorKind.UNSUPPORTED, message) from error
    return rows


def _page_of(rows: list[_Row]) -> Page:
    entries: dict[bytes, Entry] = {}
    hidden: list[Hidden] = []
    for row in rows:
        reason = _hidden_reason(row.name)
        if reason is not None:
            hidden.append(Hidden(row.name, reason))
            continue
        entry = _entry_of(row)
        old = entries.get(row.name)
        if old is None:
            entries[row.name] = entry
        elif old.kind is entry.kind:  # an icon that is a link stands before the name, without date and size
            entries[row.name] = old._replace(size=old.size or entry.size, mtime_ns=old.mtime_ns or entry.mtime_ns)
        else:
            entries[row.name] = old if old.kind is EntryKind.DIRECTORY else entry
            hidden.append(Hidden(row.name, "a directory of the same name is shown"))
    return Page(entries=list(entries.values()), hidden=hidden)


def _hidden_reason(name: bytes) -> str | None:
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        return "its name is no file name"
    return "its name is longer than 255 bytes" if len(name) > MAX_NAME_BYTES else None


def _entry_of(row: _Row) -> Entry:
    if row.is_directory:  # no time: looking one up tells none either
        return Entry(row.name, EntryKind.DIRECTORY)
    return Entry(row.name, EntryKind.FILE, size=_size(row.text), mtime_ns=_mtime_ns(row.text), needs_stat=True)


def _mtime_ns(text: str) -> int:
    """No listing names its time zone: taken as UTC, which nginx uses unless told otherwise."""
    for pattern, layout in _DATES:
        match = pattern.search(text)
        if match is not None:
            try:
                return calendar.timegm(time.strptime(match[1], layout)) * 1_000_000_000
            except ValueError:
                return 0
    return 0


def _size(text: str) -> int:
    """Return the size as far as the listing tells (rounded), 0 if it does not."""
    match = _SIZE.search(text.rstrip())
    return int(float(match[1]) * _UNITS[match[2].lower()]) if match is not None else 0
