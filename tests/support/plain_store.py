"""What lies in a store, looked at without a mount: for tests that write through one.

Owns one source, which is used from several threads; no state beside it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from fusecache.contract.errors import CacheError
from fusecache.source.body import BufferBody
from fusecache.source.protocol import Entry, EntryKind, Source
from fusecache.source.registry import open_source
from fusecache.source.write_protocol import Metadata, Writable, Writer

READERS = 8
DIRECTORY = "directory"


class PlainStore:
    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.url, self.options = url, options
        self._source: Source = open_source(url, options, {})

    def read(self, path: str) -> bytes:
        entry = self._source.stat(path.encode())
        return bytes(self._source.read(path.encode(), entry.version, 0, entry.size)) if entry.size else b""

    def write(self, path: str, data: bytes) -> None:
        """Put an object there, whatever is there now: somebody else's client."""
        writer = self._writer()
        try:
            expected: bytes | None = self._source.stat(path.encode()).version
        except CacheError:
            expected = None
        writer.put(path.encode(), BufferBody(data), Metadata(), expected, secrets.token_hex(8))

    def make_directory(self, path: str) -> None:
        self._writer().make_directory(path.encode(), Metadata())

    def delete(self, path: str) -> None:
        self._writer().delete(path.encode(), None)

    def _writer(self) -> Writer:
        assert isinstance(self._source, Writable)
        writer = self._source.open_writer()
        writer.check()
        return writer

    def entries(self, path: str = "") -> list[Entry]:
        found: list[Entry] = []
        token = None
        while True:
            page = self._source.list_page(path.encode(), token)
            found += page.entries
            token = page.next_token
            if token is None:
                return found

    def names(self, path: str = "") -> set[str]:
        """Return names, those of directories with a slash."""
        return {entry.name.decode() + ("/" if entry.kind is EntryKind.DIRECTORY else "") for entry in self.entries(path)}

    def tree(self, path: str = "") -> dict[str, str]:
        """Return what lies below a path: relative names with the SHA-256 of the bytes, "directory", or "-> TARGET"."""
        tree: dict[str, str] = {}
        files: list[str] = []
        line = [""]
        while line:
            below = line.pop()
            for entry in self.entries("/".join(part for part in (path, below) if part)):
                name = f"{below}/{entry.name.decode()}" if below else entry.name.decode()
                if entry.kind is EntryKind.DIRECTORY:
                    tree[name] = DIRECTORY
                    line.append(name)
                elif entry.kind is EntryKind.SYMLINK:
                    tree[name] = f"-> {entry.target.decode()}"
                else:
                    files.append(name)

        def digest(name: str) -> str:
            return hashlib.sha256(self.read(f"{path}/{name}" if path else name)).hexdigest()

        with ThreadPoolExecutor(READERS) as pool:
            tree.update(zip(files, pool.map(digest, files), strict=True))
        return tree

    @property
    def is_flat(self) -> bool:
        return self.url.startswith("s3:")

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def tree_of(directory: Path) -> dict[str, str]:
    """Return the same for a local directory that is no mount under test."""
    tree: dict[str, str] = {}
    for path in directory.rglob("*"):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            tree[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            tree[name] = DIRECTORY
        else:
            tree[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return tree
