"""Opens the source a URL names, importing only what that scheme needs (a mount is up in a third of a second).

Stateless; called by fetch and by the command line, from one thread, before any other method of the source.
"""

from __future__ import annotations

import difflib
import importlib
import posixpath
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import Source

_MODULES = {
    "s3": "s3",
    "s3a": "s3",
    "minio": "s3",
    "oss": "oss",
    "http": "http",
    "https": "http",
    "nfs": "nfs",
    "cpfs": "nfs",
    "file": "file",
    "local": "file",
}
"""Scheme to the module of this package that opens it. Every other scheme is fsspec's."""

_ALIASES = {"s3a": "s3", "minio": "s3", "local": "file", "cpfs": "nfs", "gcs": "gs", "ssh": "sftp"}
_ESCAPED = ("http", "https", "file", "nfs")  # in their paths %41 is A
_DEFAULT_PORTS = {"http": 80, "https": 443, "nfs": 2049, "cpfs": 2049}


class _SourceModule(Protocol):
    def open_source(self, url: str, options: Mapping[str, str], env: Mapping[str, str]) -> Source: ...


def scheme_of(url: str) -> str:
    """Return the scheme in lower case; `file` for an absolute path; the outermost one of a chain (`zip::file:///x.zip`)."""
    if url.startswith("/"):
        return "file"
    head = url.split("://", 1)[0]
    if head == url and "::" not in url:
        raise CacheError(
            ErrorKind.INVALID, f"{url!r} is neither scheme://place nor an absolute path; for example s3://bucket/prefix"
        )
    return head.split("::", 1)[0].lower()


def open_source(url: str, options: Mapping[str, str], env: Mapping[str, str]) -> Source:
    """Open a source without reaching it (that is `Source.check`).

    Args:
        options: the user's `-o KEY=VALUE`; an unknown key is refused with the nearest known one.
        env: the environment of the process that was asked for the mount; the only way a source sees it.
    Raises: INVALID (unknown scheme, bad URL or option, missing extra), and for local places NOT_FOUND or DENIED.
    """
    scheme = scheme_of(url)
    module_name = "fsspec_any" if "::" in url else _MODULES.get(scheme, "fsspec_any")
    try:
        module = cast(_SourceModule, importlib.import_module(f"fusecache.source.{module_name}"))
    except ImportError as error:
        message = f"{scheme}:// needs the Python package {error.name!r}, which is not installed; reinstall fusecache"
        raise CacheError(ErrorKind.INVALID, message) from error
    return module.open_source(url, options, env)


def known_schemes() -> list[str]:
    """Return every scheme that can be opened, or could with an extra installed (for messages)."""
    from fusecache.source import fsspec_any

    return sorted(set(_MODULES) | set(fsspec_any.known_protocols()))


def unknown_scheme(scheme: str) -> CacheError:
    """Return the error that names the known schemes and the nearest one."""
    known = known_schemes()
    near = difflib.get_close_matches(scheme, known, 1)
    hint = f"did you mean {near[0]}://? " if near else ""
    return CacheError(ErrorKind.INVALID, f"unknown scheme {scheme!r}; {hint}known: {', '.join(known)}")


def normalise_url(url: str) -> str:
    """Return one spelling for all spellings of a place, without credentials: the identity of its cache.

    Lower-case scheme and host, aliases (s3a, minio, local) resolved, default port and trailing slashes dropped, percent
    escapes written one way. Slashes inside an object prefix are kept: `a//b` and `a/b` are two prefixes.
    """
    scheme = scheme_of(url)
    if "::" in url:
        return url.rstrip("/")
    if url.startswith("/"):
        url = "file://" + quote_from_bytes(url.encode("utf-8", "surrogateescape"))
    parts = urlsplit(url)
    name = _ALIASES.get(scheme, scheme)
    netloc = parts.netloc.rpartition("@")[2]
    if scheme in _DEFAULT_PORTS:
        netloc = netloc.lower().removesuffix(f":{_DEFAULT_PORTS[scheme]}").removesuffix(":")
    if name not in _ESCAPED:  # % and # are characters of the key
        rest = url.partition("://")[2]
        return f"{name}://{netloc}{rest[len(parts.netloc) :].rstrip('/')}"
    path = unquote_to_bytes(parts.path.encode("utf-8", "surrogateescape"))
    if name in ("file", "nfs"):
        netloc = "" if name == "file" and netloc == "localhost" else netloc
        path = posixpath.normpath(b"/" + path.lstrip(b"/"))
    query = f"?{parts.query}" if parts.query else ""
    return f"{name}://{netloc}{quote_from_bytes(path.rstrip(b'/'))}{query}"
