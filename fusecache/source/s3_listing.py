"""Parses one page of ListObjectsV2, as S3, OSS and their relatives send it.

Holds no state beyond one page; called from any thread. Refuses entity and document type declarations, anything past a
size limit, and every document that is not whole and consistent: such an answer is asked for again.
Specification: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import datetime
import functools
import xml.parsers.expat
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from fusecache.source.s3_plain_page import FIELDS, RawPage, read_plain_page

MAX_LISTING_BYTES = 16 << 20  # 1,000 keys of 1,024 bytes, each byte percent-encoded, are 3.5 MB
MAX_DEPTH = 8


class ListingError(Exception):
    """The page cannot be trusted; the text says why."""


class ListedObject(NamedTuple):
    """`etag` as sent, with its quotes; b"" keys do not occur."""

    key: bytes
    size: int
    etag: str
    mtime_ns: int


@dataclass(slots=True)
class Listing:
    """Objects and common prefixes in the order of the store; `next_token` None at the end."""

    objects: list[ListedObject] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    next_token: str | None = None


def parse_listing(pieces: Iterable[bytes]) -> Listing:
    """Return the page that these pieces of a body form. Raises ListingError."""
    received = []
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MAX_LISTING_BYTES:
            raise ListingError(f"it is longer than {MAX_LISTING_BYTES >> 20} MiB")
        received.append(piece)
    body = b"".join(received)
    return _listing_of(read_plain_page(body) or _Parser().parse(body))


def _listing_of(page: RawPage) -> Listing:
    is_encoded = page.top.get("EncodingType", "").lower() == "url"
    listing = Listing()
    listing.objects = [_listed_object(one, is_encoded) for one in page.objects]
    listing.prefixes = [_decode(text, is_encoded) for text in page.prefixes]
    truncated = page.top.get("IsTruncated", "").lower()
    if truncated not in ("true", "false"):
        raise ListingError("it does not say whether it is complete")
    if truncated == "true":
        listing.next_token = page.top.get("NextContinuationToken")
        if not listing.next_token:
            raise ListingError("it is incomplete and names no continuation")
    count = page.top.get("KeyCount")
    if count and count != str(len(listing.objects) + len(listing.prefixes)):
        raise ListingError(f"it announces {count[:20]} names and holds {len(listing.objects) + len(listing.prefixes)}")
    return listing


class _Parser:
    """Collects the text of each element below the root; a record is complete when its element ends."""

    def __init__(self) -> None:
        self._expat = xml.parsers.expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.EntityDeclHandler = self._refuse
        self._path: list[str] = []
        self._characters_seen: list[str] = []
        self._record: dict[str, str] = {}
        self._page = RawPage()

    def parse(self, body: bytes) -> RawPage:
        try:
            self._expat.Parse(body, True)
        except xml.parsers.expat.ExpatError as error:
            raise ListingError(f"it is not well-formed XML ({error})") from error
        return self._page

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag.rpartition(":")[2])
        if len(self._path) > MAX_DEPTH:
            raise ListingError("its elements are nested too deeply")
        if len(self._path) == 1 and self._path[0] != "ListBucketResult":
            raise ListingError(f"it is a {self._path[0][:40]!r} document")
        if len(self._path) == 2:
            self._record = {}
        self._characters_seen.clear()

    def _end(self, tag: str) -> None:
        text = "".join(self._characters_seen)
        self._characters_seen.clear()
        name = self._path.pop()
        depth = len(self._path)
        if depth == 2:
            self._record[name] = text
        elif depth == 1 and name == "Contents":
            self._page.objects.append(tuple(self._record.get(name, "") for name in FIELDS))
        elif depth == 1 and name == "CommonPrefixes":
            self._page.prefixes.append(self._record.get("Prefix", ""))
        elif depth == 1:
            self._page.top[name] = text

    def _characters(self, text: str) -> None:
        self._characters_seen.append(text)

    def _refuse(self, *_: object) -> None:
        raise ListingError("it declares a document type or entities")


def _listed_object(fields: tuple[str, ...], is_encoded: bool) -> ListedObject:
    raw_key, size, etag, modified = fields
    if not (size.isascii() and size.isdigit()) or len(size) > 18:
        raise ListingError(f"an object has the size {size[:40]!r}")
    key = _decode(raw_key, is_encoded)
    if not key:
        raise ListingError("an object has no key")
    return ListedObject(key, int(size), etag, _nanoseconds(modified))


def _decode(text: str, is_encoded: bool) -> bytes:
    """Undo encoding-type=url: as in a form, "+" is a space (S3 sends a plus as %2B)."""
    if not is_encoded:
        return text.encode("utf-8", "surrogatepass")
    text = text.replace("+", " ")
    return unquote_to_bytes(text) if "%" in text else text.encode("utf-8", "surrogatepass")


@functools.lru_cache(maxsize=1024)  # many objects are of one second
def _nanoseconds(text: str) -> int:
    """Return nanoseconds since the epoch, 0 for what is not an ISO 8601 time: a missing time is no reason to fail."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    delta = moment - _EPOCH
    return ((delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
