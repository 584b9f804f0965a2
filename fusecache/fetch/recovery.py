"""After a power cut, or the loss of the index: stages that were acknowledged find their files again, by their records.

Holds no state; runs once when a mount begins.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
from dataclasses import replace
from pathlib import Path

from fusecache.contract.changes import NOT_SET, Change, ChangeKind
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.journal import Journal, Record
from fusecache.fetch.kept_aside import keep_aside
from fusecache.fetch.sources import OpenSource
from fusecache.fetch.write_context import WriteContext
from fusecache.fetch.write_names import NameChanges
from fusecache.fetch.write_tree import Place
from fusecache.fetch.written import Note
from fusecache.index.inodes import ROOT, InodeNo
from fusecache.source.protocol import EntryKind
from fusecache.source.write_protocol import Metadata
from fusecache.tiers import stage as stages
from fusecache.tiers.stage import Stage

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20


class Recovery:
    def __init__(self, context: WriteContext, journal: Journal, names: NameChanges) -> None:
        self._context = context
        self._journal = journal
        self._names = names

    async def run(self, known: set[int]) -> list[InodeNo]:
        """Take up all records but those of stages that the index knows. Return the files, to be uploaded."""
        records = self._newest([stage for stage in sorted(self._journal.stages()) if stage not in known])
        found: list[InodeNo] = []
        for record in records:
            try:
                inode = await self._take_up(record)
            except CacheError as error:
                log.error(
                    "%r was acknowledged and cannot be uploaded now: %s; it is kept in %s", record.owner.path, error, self._place
                )
                continue
            if inode is not None:
                found.append(inode)
        return found

    @property
    def _place(self) -> Path:
        return self._context.directory

    def _newest(self, numbers: list[int]) -> list[Record]:
        """Of two records for a path the later one counts: it took the other's place a moment before the power cut."""
        newest: dict[tuple[str, bytes], Record] = {}
        records = []
        for stage in numbers:
            try:
                records.append(self._journal.load(stage))
            except CacheError as error:
                log.error("%s", error)
        for record in sorted(records, key=lambda record: record.stored_ns):
            older = newest.get((record.owner.source, record.owner.path))
            if older is not None:
                self._drop(older)
            newest[record.owner.source, record.owner.path] = record
        return list(newest.values())

    def _drop(self, record: Record) -> None:
        self._journal.remove(record.stage)
        stages.remove(self._place, f"{record.stage:x}")

    async def _take_up(self, record: Record) -> InodeNo | None:
        owner = record.owner
        opened = next((one for one in self._context.sources.all if one.source.url == owner.source), None)
        if opened is None:
            raise CacheError(ErrorKind.INVALID, f"{owner.source} is not mounted here; mount it to upload what is left")
        try:
            self._journal.restore(record)
        except CacheError as error:
            if error.kind is ErrorKind.NOT_FOUND:  # removed after the upload, and the record first: it came back alone
                self._journal.remove(record.stage)
                return None
            raise
        recorded = Note.of_json(owner.note)
        place = await self._place_of(opened, owner.path)
        note = await self._up_to_date(opened, recorded, place)
        await self._end_upload(opened, recorded, owner.path)
        if place.row is not None and (place.row.kind != EntryKind.FILE or place.row.version != note.expected):
            await self._settle_conflict(opened, record, place)
            return None
        change = Change(
            ChangeKind.CREATE, place.parent, _number(),
            mode=owner.attributes["mode"], uid=owner.attributes["uid"], gid=owner.attributes["gid"],
        )  # fmt: skip
        writes = self._context.writes
        if place.row is None:
            inode = writes.create(change, place, record.stage, handle=0)
            writes.set_note(inode, note)
        else:
            inode = place.inode
            writes.begin(change, inode, record.stage, note, handle=0)
        writes.forget(change.unique)
        log.info("%r was acknowledged before the end, and is uploaded now", owner.path)
        return inode

    async def _up_to_date(self, opened: OpenSource, note: Note, place: Place) -> Note:
        """What the store has instead of the version that the record tells may be an upload of the same file, whose end was not
        recorded any more."""
        if place.row is not None and place.row.version != note.expected:
            writer = opened.require_writer()
            own = await self._context.at_source(
                opened, lambda: writer.own_version(place.path, [note.operation] if note.operation else [], note.upload_id)
            )
            if own is not None and own.version == place.row.version:
                note = replace(note, expected=own.version, clean_size=min(note.clean_size, own.size))
        return note.without_upload()

    async def _end_upload(self, opened: OpenSource, note: Note, path: bytes) -> None:
        if note.upload_id:
            upload = note.upload(path, Metadata())
            with contextlib.suppress(CacheError):
                await opened.gate.call(lambda: opened.require_writer().abort(upload))

    async def _place_of(self, opened: OpenSource, path: bytes) -> Place:
        """Return the place of a path; directories that are missing are made again."""
        inode = ROOT
        for part in opened.subdir:
            inode = self._child(inode, part)
        *parents, name = path.split(b"/")
        for part in parents:
            with contextlib.suppress(CacheError):
                await self._context.listing.look_up(inode, part)
            place = self._context.writes.place(inode, part)
            if place.row is None:
                made = Change(ChangeKind.MKDIR, inode, _number(), part, mode=NOT_SET, uid=NOT_SET, gid=NOT_SET)
                self._context.again.add(made.unique)  # one that came about meanwhile will do
                inode = await self._names.make_directory(made)
                self._context.again.discard(made.unique)
                self._context.writes.forget(made.unique)
            else:
                inode = place.inode
        try:
            await self._context.listing.look_up(inode, name)
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
        return self._context.writes.place(inode, name)

    def _child(self, inode: InodeNo, name: bytes) -> InodeNo:
        return self._context.writes.place(inode, name).inode

    async def _settle_conflict(self, opened: OpenSource, record: Record, place: Place) -> None:
        """The store has another version: what was acknowledged, if its upload ended just before; or somebody else's."""
        row = place.row
        if row is not None and row.kind == EntryKind.FILE and row.size == record.size:
            same = functools.partial(self._is_same, opened, record, row.version)
            if await self._context.at_source(opened, same):
                self._drop(record)
                return
        reason = "the store has another version by now"
        kept = keep_aside(self._place, record.stage, record.owner.path, record.owner.source, reason)
        self._journal.remove(record.stage)
        log.error("%r was not uploaded: %s; what was written here is kept as %s", record.owner.path, reason, kept)

    def _is_same(self, opened: OpenSource, record: Record, version: bytes) -> bool:
        """In a worker thread."""
        with contextlib.closing(Stage.open(self._place, f"{record.stage:x}")) as stage:
            for run in stage.runs(0, record.size):
                for start in range(run.start, run.end if run.is_new else run.start, PIECE_BYTES):
                    piece = memoryview(bytearray(min(PIECE_BYTES, run.end - start)))
                    stage.pread_into(piece, start)
                    if bytes(opened.source.read(record.owner.path, version, start, len(piece))) != piece:
                        return False
        return True


def _number() -> int:
    """Return a number for a change that no request of the kernel has."""
    return 1 << 62 | secrets.randbits(40) << 1 | 1
