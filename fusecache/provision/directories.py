"""Directories of volumes in a source: made for one volume, and removed for no other.

Beside the directories lies `.fusecache-volumes/`, with a small object for each: it says whose directory that is, and is made
under the condition that there is none. Stateless; every step may be repeated, also after a death in the middle.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.body import BufferBody
from fusecache.source.protocol import Entry, EntryKind, Source
from fusecache.source.write_protocol import Metadata, Writable, Writer

MARKERS = b".fusecache-volumes"
DIRECTORY_MODE = 0o777
MAX_MARKER_BYTES = 64 << 10
_OPERATION_BYTES = 12


def make(source: Source, name: str, owner: Mapping[str, str]) -> None:
    """Make the directory of a volume, or find it made. `owner`: what its marker says; "volume" is the id.

    Raises: EXISTS if it is another volume's, or holds data without being any; READ_ONLY, UNSUPPORTED, DENIED.
    """
    directory, marker = name.encode(), MARKERS + b"/" + name.encode()
    writer = _writer(source)
    found = _read_marker(source, marker)
    if found is None:
        if _is_used(source, directory):
            raise CacheError(
                ErrorKind.EXISTS,
                f"{source.url}/{name} holds data and belongs to no volume of this driver; move it, or name the volume otherwise",
            )
        found = _put_marker(source, writer, marker, owner)
    if found.get("volume") != owner["volume"]:
        raise CacheError(ErrorKind.EXISTS, f"{source.url}/{name} belongs to volume {found.get('volume')!r}")
    with _unless(ErrorKind.EXISTS):
        writer.make_directory(directory, Metadata(mode=DIRECTORY_MODE))


def remove(source: Source, name: str, volume: str) -> None:
    """Remove the directory of a volume with all that is in it. One that is gone already is no error.

    Raises: NOT_PERMITTED for a directory that was not made for this volume; NOT_EMPTY if something cannot be removed.
    """
    directory, marker = name.encode(), MARKERS + b"/" + name.encode()
    writer = _writer(source)
    found = _read_marker(source, marker)
    if found is None:
        if _is_used(source, directory):
            raise CacheError(
                ErrorKind.NOT_PERMITTED,
                f"nothing says that {source.url}/{name} was made for volume {volume!r}: remove it by hand",
            )
        return
    if found.get("volume") != volume:
        raise CacheError(ErrorKind.NOT_PERMITTED, f"{source.url}/{name} belongs to volume {found.get('volume')!r}, and stays")
    _remove_tree(source, writer, directory)
    writer.delete(marker, None)


def _writer(source: Source) -> Writer:
    if not isinstance(source, Writable):
        raise CacheError(ErrorKind.UNSUPPORTED, f"{source.url} cannot be written to, and so has no place for new volumes")
    writer = source.open_writer()
    writer.check()
    return writer


def _put_marker(source: Source, writer: Writer, marker: bytes, owner: Mapping[str, str]) -> Mapping[str, str]:
    """Return what it says, whoever was first."""
    if writer.capabilities.has_directories:
        with _unless(ErrorKind.EXISTS):
            writer.make_directory(MARKERS, Metadata())
    body = json.dumps(owner, sort_keys=True).encode()
    try:
        writer.put(marker, BufferBody(body), Metadata(), None, secrets.token_hex(_OPERATION_BYTES))
    except CacheError as error:
        if error.kind is not ErrorKind.EXISTS:
            raise
        return _read_marker(source, marker) or {}
    return owner


def _read_marker(source: Source, marker: bytes) -> Mapping[str, str] | None:
    try:
        entry = source.stat(marker)
        data = source.read(marker, entry.version, 0, min(entry.size, MAX_MARKER_BYTES)) if entry.size else b"{}"
    except CacheError as error:
        if error.kind in (ErrorKind.NOT_FOUND, ErrorKind.NOT_A_DIRECTORY):
            return None
        raise
    try:
        found = json.loads(bytes(data))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CacheError(ErrorKind.CORRUPT, f"{source.url}/{marker.decode()} is no marker of a volume: look at it, and remove it")
    return found


def _is_used(source: Source, directory: bytes) -> bool:
    try:
        page = source.list_page(directory, None)
    except CacheError as error:
        if error.kind is ErrorKind.NOT_FOUND:
            return False
        if error.kind is ErrorKind.NOT_A_DIRECTORY:
            return True
        raise
    return bool(page.entries or page.hidden or page.next_token)


def _remove_tree(source: Source, writer: Writer, directory: bytes) -> None:
    """Files first, then directories, from the leaves on."""
    line, seen = [directory], []
    while line:
        one = line.pop()
        seen.append(one)
        for entry in _entries(source, one):
            path = one + b"/" + entry.name
            if entry.kind is EntryKind.DIRECTORY:
                line.append(path)
            else:
                writer.delete(path, None)
    for one in reversed(seen):
        with _unless(ErrorKind.NOT_FOUND):
            writer.remove_directory(one)


def _entries(source: Source, directory: bytes) -> Iterator[Entry]:
    """Yield what is in a directory, all of it known before the first is removed."""
    found: list[Entry] = []
    token: str | None = None
    try:
        while True:
            page = source.list_page(directory, token)
            found += page.entries
            token = page.next_token
            if token is None:
                break
    except CacheError as error:
        if error.kind is not ErrorKind.NOT_FOUND:
            raise
    yield from found


@contextlib.contextmanager
def _unless(kind: ErrorKind) -> Iterator[None]:
    try:
        yield
    except CacheError as error:
        if error.kind is not kind:
            raise
