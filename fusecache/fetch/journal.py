"""Records of stages: what makes bytes that were acknowledged before they were uploaded survive a power cut.

Beside its stage in the state directory lies `NAME.record`: a line of JSON that says whose bytes these are, and the map of the
stage (tiers/stage.py) as it was when the bytes had been synced. The index is not synced, and is not needed: what it says of a
file can be had from its record. A record is written under another name, synced, and renamed; it is removed before its stage.

State: which stages have a record. Everything here blocks, and runs in worker threads, but for `has`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.tiers.stage import RECORD_SUFFIX, Stage


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose bytes a stage has.

    Attributes:
        source: URL.
        path: within the source.
        note: as fetch/written.py; of an upload that is under way only its id counts, so that it can be ended.
        attributes: "mode", "uid", "gid" as the index has them.
    """

    source: str
    path: bytes
    note: Mapping[str, Any]
    attributes: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        path = self.path.decode("utf-8", "surrogateescape")
        return {"source": self.source, "path": path, "note": dict(self.note), "attributes": dict(self.attributes)}

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(raw["source"], raw["path"].encode("utf-8", "surrogateescape"), raw["note"], raw["attributes"])


@dataclass(frozen=True, slots=True)
class Record:
    """`size` of the file, `stored_ns`: of two records for the same path the later one counts."""

    stage: int
    owner: Owner
    size: int
    mtime_ns: int
    stored_ns: int
    map: bytes


class Journal:
    def __init__(self, directory: Path) -> None:
        """`directory`: of stages."""
        self._directory = directory
        self._stored: set[int] | None = None  # who has a record; None: nobody asked yet

    def _path(self, stage: int) -> Path:
        return self._directory / f"{stage:x}{RECORD_SUFFIX}"

    def has(self, stage: int) -> bool:
        if self._stored is None:
            self._stored = self.stages()
        return stage in self._stored

    def store(self, stage: int, owner: Owner) -> None:
        """Return when what the stage has now, and whose it is, would survive a power cut.

        Raises: NO_SPACE; UNAVAILABLE for a disk that fails; NOT_FOUND if the stage is gone."""
        try:
            with contextlib.closing(Stage.open(self._directory, f"{stage:x}")) as opened:
                taken, size = opened.take_map(), opened.size  # before the bytes: what it calls new is then among them
                os.fdatasync(opened.fd)
                told = {"size": size, "mtime_ns": os.fstat(opened.fd).st_mtime_ns, "stored_ns": time.time_ns()}
            path = self._path(stage)
            new = path.with_suffix(".new")
            with new.open("wb") as file:
                file.write(json.dumps({**owner.to_json(), **told}).encode() + b"\n" + taken)
                file.flush()
                os.fdatasync(file.fileno())
            new.rename(path)
            if self._stored is not None:
                self._stored.add(stage)
            self._sync_directory()
        except OSError as error:
            kind = ErrorKind.NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else ErrorKind.UNAVAILABLE
            raise CacheError(kind, f"what is written cannot be kept in {self._directory}: {error.strerror}") from error

    def remove(self, stage: int, *, durably: bool = False) -> None:
        """Forget a record, if there is one. `durably`: it must not come back after a power cut."""
        try:
            self._path(stage).unlink()
        except FileNotFoundError:
            return
        finally:
            if self._stored is not None:
                self._stored.discard(stage)
        if durably:
            self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def stages(self) -> set[int]:
        """Return the stages that have a record."""
        found = set()
        for file in self._directory.glob(f"*{RECORD_SUFFIX}"):
            with contextlib.suppress(ValueError):
                found.add(int(file.name.removesuffix(RECORD_SUFFIX), 16))
        return found

    def load(self, stage: int) -> Record:
        """Raises: NOT_FOUND; CORRUPT for what `store` did not write."""
        try:
            head, _, taken = self._path(stage).read_bytes().partition(b"\n")
            raw = json.loads(head)
            return Record(stage, Owner.of_json(raw), raw["size"], raw["mtime_ns"], raw["stored_ns"], taken)
        except FileNotFoundError as error:
            raise CacheError(ErrorKind.NOT_FOUND, f"stage {stage:x} has no record") from error
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CacheError(ErrorKind.CORRUPT, f"the record of stage {stage:x} in {self._directory} is none: {error}") from error

    def restore(self, record: Record) -> None:
        """Make the stage what it was when the record was written. Raises: NOT_FOUND without its bytes."""
        Stage.restore(self._directory, f"{record.stage:x}", record.map, record.size, record.mtime_ns)
