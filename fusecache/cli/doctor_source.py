"""What `fusecache doctor SOURCE` checks about a store: that it answers, lets us in, agrees on the time, and serves ranges.

Stateless; opens the source as fetch would, reads a few bytes, and closes it. Every step has a deadline of its own: a store
that swallows requests is a finding and not a hang.
"""

from __future__ import annotations

import email.utils
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from fusecache.cli.doctor_finding import FAIL, OK, WARN, Finding
from fusecache.cli.guarded import look
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import SourceSpec
from fusecache.source.protocol import Entry, EntryKind, Source
from fusecache.source.registry import open_source, scheme_of

T = TypeVar("T")
STEP_SECONDS = 30.0
SLOW_LISTING_SECONDS = 2.0
SKEW_WARN_SECONDS = 60.0
SKEW_FAIL_SECONDS = 900.0  # S3 and OSS refuse signatures that are 15 minutes off
_DEPTH = 4  # directories to descend in search of a file to read


def check_source(spec: SourceSpec, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings about one source; what a failed step makes pointless is left out."""
    try:
        source = open_source(spec.url, spec.options, environment)
    except CacheError as error:
        yield _failure("source", error)
        return
    try:
        yield from _check_open(source, spec, environment)
    finally:
        source.close()


def _check_open(source: Source, spec: SourceSpec, environment: Mapping[str, str]) -> Iterator[Finding]:
    skew = clock_skew(date_url(spec, environment))
    try:
        seconds, _ = _timed(source, source.check)
    except CacheError as error:
        yield _failure("credentials" if error.kind is ErrorKind.DENIED else "reachability", error)
        yield from _skew(skew)
        return
    yield Finding("reachability", OK, f"{source.url} answered in {seconds * 1000:.0f} ms")
    yield Finding("credentials", OK, "accepted")
    yield from _skew(skew)
    yield from _listing(source)
    if source.capabilities.strong_versions:
        yield Finding("versions", OK, "every read names the version it wants")
    else:
        message = "the source has no strong versions: an object replaced while it is read is noticed before and after, not during"
        yield Finding("versions", WARN, message, "do not change files in place; write new ones and rename them")


def _listing(source: Source) -> Iterator[Finding]:
    try:
        seconds, page = _timed(source, lambda: source.list_page(b"", None, 100))
    except CacheError as error:
        yield _failure("listing", error)
        return
    more = "" if page.next_token is None else " and more"
    text = f"{len(page.entries)} names{more} in {seconds * 1000:.0f} ms"
    if seconds > SLOW_LISTING_SECONDS:
        yield Finding("listing", WARN, text, "the store is slow or far; raise --ttl so that it is listed less often")
    elif not page.entries:
        yield Finding("listing", WARN, "the source is empty", "check the prefix: it is part of the URL, with its case")
    else:
        yield Finding("listing", OK, text)
    try:
        yield _ranges(source, page.entries)
    except CacheError as error:
        yield _failure("ranges", error)


def _ranges(source: Source, entries: list[Entry]) -> Finding:
    _, found = _timed(source, lambda: _find_file(source, b"", entries, _DEPTH))
    if found is None:
        return Finding("ranges", WARN, "no file was found to try", "try again with a deeper prefix")
    path, entry = found
    length = min(1024, entry.size)
    seconds, _ = _timed(source, lambda: source.read(path, entry.version, entry.size - length, length))
    if not source.capabilities.ranges:
        cure = "a read of a part fetches the whole object; serve the files from a server with byte ranges"
        return Finding("ranges", WARN, "the server does not serve ranges", cure)
    return Finding("ranges", OK, f"the last {length} bytes of {os.fsdecode(path)!r} came in {seconds * 1000:.0f} ms")


def _find_file(source: Source, directory: bytes, entries: list[Entry], depth: int) -> tuple[bytes, Entry] | None:
    for entry in entries:
        if entry.kind is EntryKind.FILE:
            path = _join(directory, entry.name)
            exact = source.stat(path) if entry.needs_stat else entry
            if exact.size > 0:
                return path, exact
    if depth == 0:
        return None
    for entry in entries:
        if entry.kind is EntryKind.DIRECTORY:
            path = _join(directory, entry.name)
            found = _find_file(source, path, source.list_page(path, None, 100).entries, depth - 1)
            if found is not None:
                return found
    return None


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _timed(source: Source, call: Callable[[], T]) -> tuple[float, T]:
    started = time.monotonic()
    overdue = (
        f"{source.url} did not answer within {STEP_SECONDS:g} s; check its address, and whether a firewall swallows requests"
    )
    result = look(source.url, call, STEP_SECONDS, overdue)
    return time.monotonic() - started, result


def date_url(spec: SourceSpec, environment: Mapping[str, str]) -> str | None:
    """Return what to ask for a Date header, or None for sources without signatures."""
    scheme = scheme_of(spec.url)
    if scheme in ("http", "https"):
        return spec.url
    endpoints = [
        value for key, value in spec.options.items() if key.lower().replace("_", "").endswith(("endpointurl", "endpoint"))
    ]
    if scheme in ("s3", "s3a", "minio"):
        endpoints += [environment[name] for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if environment.get(name)]
        endpoints.append("https://s3.amazonaws.com")
    elif scheme == "oss":
        endpoints += [environment["OSS_ENDPOINT"]] if environment.get("OSS_ENDPOINT") else []
    if not endpoints:
        return None
    return endpoints[0] if "://" in endpoints[0] else f"https://{endpoints[0]}"


def clock_skew(url: str | None) -> float | None:
    """Return by how many seconds our clock is ahead of the store's, or None if the store does not say.

    Nothing secret is sent and nothing but a date is believed, so the certificate is not checked: it may be what is wrong.
    """
    if url is None:
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as reply:
            date = reply.headers.get("Date")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date")
        error.close()
    except (OSError, ValueError):
        return None
    now = time.time()
    try:
        return now - email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _skew(seconds: float | None) -> Iterator[Finding]:
    if seconds is None:
        return
    text = f"our clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the store's"
    if abs(seconds) > SKEW_FAIL_SECONDS:
        yield Finding(
            "clock", FAIL, text, "set the clock (timedatectl set-ntp true); signed requests are refused from 15 minutes on"
        )
    elif abs(seconds) > SKEW_WARN_SECONDS:
        yield Finding("clock", WARN, text, "set the clock (timedatectl set-ntp true)")
    else:
        yield Finding("clock", OK, "agrees with the store's to the minute")


def _failure(check: str, error: CacheError) -> Finding:
    """The message of an error ends with its cure, after its last semicolon or colon."""
    text = str(error)
    message, _, cure = text.rpartition("; " if "; " in text else ": ")
    if not message:
        message, cure = text, ""
    return Finding(check, FAIL, message, cure or "see docs/sources.md")
