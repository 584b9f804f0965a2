"""`SOURCE[=SUBDIR]` on the command line: which part is the URL, and where its tree appears in the mount.

Stateless; parsing only. The rules, which docs/operations.md repeats for users:

1. What follows the last `=` is SUBDIR, if the URL before it has no `?`, and SUBDIR has no `:`, no `?` and does not end in `/`.
2. A SOURCE that ends in `=` is a URL as a whole, without that sign: `s3://bucket/day=2024-01-01=`.
3. A URL with a query never has a SUBDIR on the command line (a configuration file can give it one); rule 2 holds for it too.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from fusecache.contract.errors import CacheError, ErrorKind

MAX_NAME_BYTES = 255


def split_source(text: str) -> tuple[str, str]:
    """Return (url, subdir) of one SOURCE argument. Raises: INVALID."""
    url, sign, tail = text.rpartition("=")
    if not sign:
        return check_url(text), ""
    if not tail:
        return check_url(url), ""
    if "?" in url or ":" in tail or "?" in tail or tail.endswith("/"):
        return check_url(text), ""
    return check_url(url), check_subdir(tail)


def check_subdir(text: str) -> str:
    """Return the components joined by "/", "" for the root. Raises: INVALID for what could leave the tree or not be shown."""
    components = text.strip("/").split("/") if text.strip("/") else []
    for component in components:
        if component in ("", ".", "..") or "\0" in component:
            raise CacheError(
                ErrorKind.INVALID, f"subdirectory {text!r} has the component {component!r}; use plain names such as data/train"
            )
        if len(os.fsencode(component)) > MAX_NAME_BYTES:
            raise CacheError(
                ErrorKind.INVALID, f"subdirectory {text[:40]!r}... has a name of more than {MAX_NAME_BYTES} bytes; shorten it"
            )
    return "/".join(components)


def check_url(url: str) -> str:
    """Return the URL (an absolute one for a relative path), or refuse one with a password in it. Raises: INVALID."""
    if not url:
        raise CacheError(ErrorKind.INVALID, "a source is empty; write scheme://place, for example s3://bucket/prefix")
    if "://" not in url and "::" not in url and (url.startswith((".", "/")) or os.path.isdir(url)):
        return os.path.abspath(url)
    try:
        password = urlsplit(url.rpartition("::")[2]).password
    except ValueError as error:
        raise CacheError(ErrorKind.INVALID, f"the URL of a source is malformed ({error}); write scheme://place/path") from None
    if password is not None:
        place = url.split("://", 1)[0] + "://..."
        cure = "use the environment or a file, for example -o secret_key_file=PATH"
        raise CacheError(
            ErrorKind.INVALID, f"the URL {place} holds a password, which everybody on this machine could read; {cure}"
        )
    return url


def check_places(places: list[tuple[str, str]]) -> None:
    """Refuse two sources (url, subdir) at one place. Raises: INVALID."""
    seen: dict[str, str] = {}
    for url, subdir in places:
        if subdir in seen:
            where = f"at {subdir!r}" if subdir else "at the root"
            raise CacheError(
                ErrorKind.INVALID,
                f"{seen[subdir]} and {url} are both {where} of the mount; give each its own place: SOURCE=SUBDIR",
            )
        seen[subdir] = url
