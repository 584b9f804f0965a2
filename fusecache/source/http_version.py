"""What identifies the bytes behind a URL, as far as a web server tells: its ETag, Last-Modified and length. Stateless values."""

from __future__ import annotations

import calendar
import email.utils
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from fusecache.source.protocol import MAX_VERSION_BYTES


@dataclass(frozen=True, slots=True)
class HttpVersion:
    """Attributes:
    size: bytes of the whole object.
    etag: with its quotes and W/, "" if there is none.
    modified_seconds: of Last-Modified, None if there is none.
    """

    size: int
    etag: str = ""
    modified_seconds: int | None = None

    @classmethod
    def of_headers(cls, headers: Mapping[str, str], size: int) -> HttpVersion:
        return cls(size, headers.get("etag", "").strip(), parse_date(headers.get("last-modified", "")))

    @property
    def is_strong(self) -> bool:
        return self.etag.startswith('"')

    def encode(self) -> bytes:
        """Return the version for the index: `s:SIZE:ETAG` for a strong tag, else `w:SIZE:SECONDS:ETAG`; a hash if too long."""
        if self.is_strong:
            text = f"s:{self.size}:{self.etag}"
        else:
            text = f"w:{self.size}:{'' if self.modified_seconds is None else self.modified_seconds}:{self.etag}"
        raw = text.encode("utf-8", "replace")
        return raw if len(raw) <= MAX_VERSION_BYTES else b"h:" + hashlib.sha256(raw).hexdigest().encode()


def conditions(version: bytes) -> dict[str, str]:
    """Return the request headers that let the server refuse if it holds another version (412).

    A weak ETag never satisfies If-Match (RFC 9110, 13.1.1), so the time stands in for it; a hashed version has neither: there the
    answer's own headers are all there is to compare. They are compared in every case.
    """
    text = version.decode("utf-8", "replace")
    if text.startswith("s:"):
        return {"If-Match": text.split(":", 2)[2]}
    if text.startswith("w:"):
        seconds = text.split(":", 3)[2]
        if seconds:
            return {"If-Unmodified-Since": email.utils.formatdate(int(seconds), usegmt=True)}
    return {}


def parse_date(text: str) -> int | None:
    """Return the seconds since the epoch of an HTTP date, None if it is none."""
    parsed = email.utils.parsedate(text) if text else None
    try:
        return None if parsed is None else calendar.timegm(parsed)
    except (ValueError, OverflowError):
        return None
