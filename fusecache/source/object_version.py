"""Translates between the ETag of a store and the version that the index keeps.

Holds no state. A version is the strong ETag without its quotes; one that is too long for the index, or that cannot stand
in a header, is replaced by its hash. Hashed versions cannot be asked for with If-Match: the ETag of each answer is
compared instead, which says the same, as head and body of one answer belong to one version.
"""

from __future__ import annotations

import hashlib
import re

from fusecache.source.protocol import MAX_VERSION_BYTES

_HASH_MARK = b"sha256:"  # an ETag that starts like this is hashed too, so that the mark is never ambiguous
_PLAIN = re.compile(rf'"((?!{_HASH_MARK.decode()})[!#-\[\]-~]{{1,{MAX_VERSION_BYTES}}})"')


def version_of_etag(etag: str) -> bytes:
    """Return the version that an ETag header (or element) names; b"" if it is missing or weak."""
    if plain := _PLAIN.fullmatch(etag):  # a listing has a thousand of them
        return plain[1].encode()
    text = etag.strip()
    if text[:2] in ("W/", "w/"):
        return b""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    raw = text.encode("utf-8", "surrogatepass")
    if not raw:
        return b""
    is_plain = text.isascii() and text.isprintable() and not any(character in text for character in ' "\\')
    if is_plain and len(raw) <= MAX_VERSION_BYTES and not raw.startswith(_HASH_MARK):
        return raw
    return _HASH_MARK + hashlib.sha256(raw).hexdigest().encode()


def if_match_of_version(version: bytes) -> str | None:
    """Return the value of If-Match for a version, None where only comparing helps."""
    return None if version.startswith(_HASH_MARK) else f'"{version.decode("ascii")}"'
