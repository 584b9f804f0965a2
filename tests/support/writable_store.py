"""A store that a read-write mount is made of: a local directory or a bucket of a real S3 server, and looked at without the mount.

Owns the source that looks, from `__init__` to `close`; the server belongs to the caller.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fusecache.source.protocol import EntryKind, Source
from fusecache.source.registry import open_source
from tests.contract.source_suite import list_all
from tests.support.mounted import Mounted
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed

KINDS = ("file", "s3")
BUCKET = "writable"


class WritableStore:
    """`kind`: one of KINDS. `directory`: where the files of a "file" lie, else None."""

    def __init__(self, kind: str, base: Path, server: Seaweed | None) -> None:
        self.kind = kind
        self.directory: Path | None = None
        self.options: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        if kind == "file":
            self.directory = base / "source"
            self.directory.mkdir()
            self.url = f"file://{self.directory}"
            self._source: Source = open_source(self.url, {}, {})
            return
        assert server is not None
        S3Bucket(server.endpoint_url, BUCKET, ADMIN.access_key, ADMIN.secret_key).create().close()
        self.url = f"s3://{BUCKET}/{os.urandom(4).hex()}"
        self.options = {"endpoint_url": server.endpoint_url}
        self.environment |= {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}
        keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        self._source = open_source(self.url, {**self.options, **keys}, {})

    @property
    def is_flat(self) -> bool:
        return self.kind == "s3"

    def mounted(self, base: Path, *, quota: str = "64Mi", arguments: Sequence[str] = ()) -> Mounted:
        """Return a mount to be made: writable, with one tier below `base`."""
        return Mounted(
            base,
            [self.url],
            options=self.options,
            tiers=[f"{base / 'tier'}:{quota}"],
            arguments=["--read-write", *arguments],
            environment=self.environment,
        )

    def read(self, path: str) -> bytes:
        entry = self._source.stat(path.encode())
        return bytes(self._source.read(path.encode(), entry.version, 0, entry.size)) if entry.size else b""

    def names(self, path: str = "") -> set[str]:
        """Return names, those of directories with a slash."""
        entries = list_all(self._source, path.encode())[0]
        return {entry.name.decode() + ("/" if entry.kind is EntryKind.DIRECTORY else "") for entry in entries}

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
