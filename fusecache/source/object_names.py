"""Turns a page of keys into the entries of a directory, or into what has to stay hidden.

Holds no state beyond a page: what the next page must know travels in the token. Called from any thread.
The rule for names is the one in `protocol`; newline and control characters are legal in a name and kept as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from fusecache.source.object_version import version_of_etag
from fusecache.source.protocol import MAX_NAME_BYTES, Entry, EntryKind, Hidden
from fusecache.source.s3_listing import ListedObject, Listing, ListingError


def hidden_reason(name: bytes) -> str | None:
    """Return why a component cannot be shown in a directory, None if it can."""
    if not name:
        return "empty path component"
    if name in (b".", b".."):
        return "'.' or '..' as a path component"
    if len(name) > MAX_NAME_BYTES:
        return f"name longer than {MAX_NAME_BYTES} bytes"
    if b"\0" in name:
        return "NUL in the name"
    return None


@dataclass(frozen=True, slots=True)
class ListingPosition:
    """Where a listing stands between two pages; JSON in our own token.

    Attributes:
        store_token: the store's continuation token.
        last_object, last_prefix: the last of each seen so far, b"" for none yet.
        is_empty: neither name nor marker was seen.
    """

    store_token: str | None = None
    last_object: bytes = b""
    last_prefix: bytes = b""
    is_empty: bool = True

    def encode(self) -> str:
        return json.dumps([self.store_token, self.last_object.hex(), self.last_prefix.hex(), self.is_empty])

    @classmethod
    def decode(cls, token: str | None) -> ListingPosition:
        """Raises ValueError for what `encode` did not make."""
        if token is None:
            return cls()
        store_token, last_object, last_prefix, is_empty = json.loads(token)
        return cls(store_token, bytes.fromhex(last_object), bytes.fromhex(last_prefix), is_empty)


@dataclass(slots=True)
class NamedPage:
    """`doubtful`: files of which a directory of the same name may still come on a later page."""

    entries: list[Entry]
    hidden: list[Hidden]
    doubtful: list[bytes]
    position: ListingPosition


def name_page(listing: Listing, prefix: bytes, before: ListingPosition) -> NamedPage:
    """Return the entries that the keys of one page below `prefix` make.

    Raises ListingError if the page repeats its token or earlier names, or holds keys that were not asked for.
    A file is shadowed by a directory of the same name on the same page; on a later one only where every key between
    "name" and "name/" lies on this page: those files are few (each a prefix of the page's last key) and `doubtful`.
    """
    _check_progress(listing, prefix, before)
    page = NamedPage([], [], [], before)
    directories: set[bytes] = set()
    for common in listing.prefixes:
        name = common[len(prefix) : -1]
        directories.add(name)
        reason = hidden_reason(name)
        if reason is None:
            page.entries.append(Entry(name, EntryKind.DIRECTORY))
        else:
            page.hidden.append(Hidden(common, reason))
    last_key = max([*(one.key for one in listing.objects[-1:]), *listing.prefixes[-1:]], default=b"")
    for one in listing.objects:
        name = one.key[len(prefix) :]
        if not name:
            continue  # the marker object of this very directory
        reason = hidden_reason(name)
        if reason is None and name in directories:
            reason = "a directory of the same name exists"
        if reason is not None:
            page.hidden.append(Hidden(one.key, reason))
            continue
        page.entries.append(file_entry(name, one))
        if listing.next_token is not None and last_key.startswith(one.key) and last_key < one.key + b"/":
            page.doubtful.append(name)
    page.position = ListingPosition(
        listing.next_token,
        listing.objects[-1].key if listing.objects else before.last_object,
        listing.prefixes[-1] if listing.prefixes else before.last_prefix,
        before.is_empty and not listing.objects and not listing.prefixes,
    )
    return page


def file_entry(name: bytes, one: ListedObject) -> Entry:
    version = version_of_etag(one.etag)
    return Entry(name, EntryKind.FILE, one.size, one.mtime_ns, version, needs_stat=not version)


def _check_progress(listing: Listing, prefix: bytes, before: ListingPosition) -> None:
    if listing.next_token is not None and listing.next_token == before.store_token:
        raise ListingError("it repeats its continuation token")
    last = before.last_object
    for one in listing.objects:
        key = one.key
        if not key.startswith(prefix) or b"/" in key[len(prefix) :]:
            raise ListingError("it holds keys outside of what was asked for")
        if last >= key and not _ascends(last, key):
            raise ListingError("it repeats names, or they do not ascend")
        last = key
    last = before.last_prefix
    for common in listing.prefixes:
        if not common.startswith(prefix) or common[-1:] != b"/" or b"/" in common[len(prefix) : -1] or len(common) <= len(prefix):
            raise ListingError("it holds prefixes outside of what was asked for")
        if last >= common and not _ascends(last, common):
            raise ListingError("it repeats names, or they do not ascend")
        last = common


def _ascends(earlier: bytes, later: bytes) -> bool:
    """True if `later` comes after `earlier` in any order that stores use: by bytes (S3), by bytes of the name without its
    slash (SeaweedFS, a file system beneath), by UTF-16 units. A repeated name ascends in none of them."""
    if earlier < later or earlier.rstrip(b"/") < later.rstrip(b"/"):
        return earlier != later
    return _utf16(earlier) < _utf16(later)


def _utf16(key: bytes) -> bytes:
    return key.decode("utf-8", "surrogateescape").encode("utf-16-be", "surrogatepass")
