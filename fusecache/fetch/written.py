"""What fetch must know of a file that is being written, as it stands in `WriteRow.note`: enough to go on after its own death."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from fusecache.index.inodes import NO_MODE, NO_OWNER, Inode
from fusecache.index.writes import WriteRow
from fusecache.source.write_protocol import Metadata, Part, Upload


@dataclass(frozen=True, slots=True)
class Note:
    """Attributes:
    expected: the version in the store that an upload replaces; None: there is nothing.
    clean_size: size of the file as the store has it; -1: never uploaded.
    sent: the changes of each region (Stage.raw_changes) that the store has, in hex, or "file": beside the stage; "": as it began.
    operation: with what the ids of all steps of its uploads begin, until one of them is committed.
    step: id of the upload in parts that is under way, "" for none.
    upload_id: of the parts sent so far, "" for none.
    xattrs: all there are, by hex name and value.
    error: why the last upload failed, "" if it did not.
    """

    expected: bytes | None
    clean_size: int
    sent: str = ""
    operation: str = ""
    upload_id: str = ""
    xattrs: Mapping[str, str] | None = None
    error: str = ""
    step: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "expected": None if self.expected is None else self.expected.hex(),
            "clean_size": self.clean_size,
            "sent": self.sent,
            "operation": self.operation,
            "upload_id": self.upload_id,
            "xattrs": None if self.xattrs is None else dict(self.xattrs),
            "error": self.error,
            "step": self.step,
        }

    @classmethod
    def of(cls, row: WriteRow) -> Self:
        return cls.of_json(row.note)

    @classmethod
    def of_json(cls, note: Mapping[str, Any]) -> Self:
        expected = note["expected"]
        return cls(
            None if expected is None else bytes.fromhex(expected),
            note["clean_size"],
            note["sent"],
            note["operation"],
            note["upload_id"],
            note["xattrs"],
            note["error"],
            note.get("step", ""),
        )

    def upload(self, path: bytes, metadata: Metadata) -> Upload:
        return Upload(path, self.upload_id, self.step or self.operation, metadata)

    def with_error(self, error: str) -> Self:
        return replace(self, error=error)

    def without_upload(self) -> Self:
        return replace(self, upload_id="", step="")

    def settled(self) -> Self:
        """An upload was committed: nothing of what was sent before is in doubt any more."""
        return replace(self.without_upload(), operation=new_operation())


def new_operation() -> str:
    """Return an id for an upload, by which we know an object that we made ourselves when the answer was lost."""
    return secrets.token_hex(12)


def metadata_of(row: Inode, xattrs: Mapping[str, str] | None, *, mtime_ns: int | None) -> Metadata:
    """Return what is kept of an inode with its object."""
    return Metadata(
        mode=None if row.mode == NO_MODE else row.mode,
        uid=None if row.uid == NO_OWNER else row.uid,
        gid=None if row.gid == NO_OWNER else row.gid,
        mtime_ns=mtime_ns,
        xattrs=None if xattrs is None else {bytes.fromhex(name): bytes.fromhex(value) for name, value in xattrs.items()},
    )


def part_to_json(part: Part, changes: bytes) -> dict[str, Any]:
    """`changes`: of the regions of the part, when it was sent."""
    return {"tag": part.tag, "size": part.size, "changes": changes.hex()}


def part_of_json(number: int, value: Mapping[str, Any]) -> tuple[Part, bytes]:
    return Part(number, value["tag"], value["size"]), bytes.fromhex(value["changes"])
