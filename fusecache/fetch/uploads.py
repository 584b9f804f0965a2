"""Brings a file that is being written up to the store: as one object, or in parts while it is still being written.

What was sent is in the index (notes and parts), so that a successor goes on with it. State: of which files the store may have
something that no answer told of. One task at a time works on a file; the calls that wait run in worker threads.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.buffer_pool import BufferPool
from fusecache.fetch.composed_body import KEPT_BYTES, ComposedBody, compose
from fusecache.fetch.part_plan import FIRST_BYTES, PartRange, part_range, parts_of
from fusecache.fetch.sources import OpenSource, Sources
from fusecache.fetch.stages import Stages
from fusecache.fetch.workers import Priority
from fusecache.fetch.write_tree import WriteTree
from fusecache.fetch.written import Note, metadata_of, part_of_json, part_to_json
from fusecache.index.inodes import Inode, InodeNo
from fusecache.index.writes import WriteFlag
from fusecache.source.body import BufferBody
from fusecache.source.protocol import Entry
from fusecache.source.write_protocol import Metadata, Part, Writer
from fusecache.tiers.stage import REGION, Stage

log = logging.getLogger(__name__)

T = TypeVar("T")

WHOLE_BYTES = 2 * FIRST_BYTES  # up to this a file goes as one object
PARALLEL_PARTS = 4
TRIES = 4  # when the store has something else than was expected, each time for another reason
COMPOSED_AT_ONCE = 1 << 20  # bytes that the loop itself may copy
MAX_ROUNDS = 8  # in which parts were changed while they were sent; then the file is as it is
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
MAX_NOTED_BYTES = 1024
IN_FILE = "file"
CUT_OFF = "the file is being cut off again and again while it is uploaded"
_CONFLICTS = (ErrorKind.EXISTS, ErrorKind.STALE)


class ConflictError(CacheError):
    """The store has something else than what the file began with."""

    def __init__(self, error: CacheError) -> None:
        super().__init__(ErrorKind.STALE, str(error))


@dataclass(frozen=True, slots=True)
class _Job:
    inode: InodeNo
    row: Inode
    note: Note
    stage: Stage
    opened: OpenSource
    writer: Writer


class Uploads:
    def __init__(
        self,
        tree: WriteTree,
        sources: Sources,
        stages: Stages,
        inode_row: Callable[[InodeNo], Inode | None],
        deadline_seconds: float,
        buffers: BufferPool,
    ) -> None:
        self._tree = tree
        self._sources = sources
        self._stages = stages
        self._inode_row = inode_row
        self._deadline_seconds = deadline_seconds
        self._begun_here: set[InodeNo] = set()
        self._buffers = buffers

    def start(self) -> None:
        """What a predecessor left, it may have sent, too."""
        self._begun_here = {inode for inode, _ in self._tree.all_written()}

    def note_begun(self, inode: InodeNo) -> None:
        self._begun_here.add(inode)

    def is_begun(self, inode: InodeNo) -> bool:
        """Whether the store may have an object, or parts of one, that no answer told of."""
        return inode in self._begun_here

    def is_clean(self, inode: InodeNo) -> bool:
        """Whether the store has all of it, or is not to have it."""
        written = self._tree.written(inode)
        return written is None or bool(written.flags & WriteFlag.UNLINKED) or self.is_sent(inode)

    def is_sent(self, inode: InodeNo) -> bool:
        """Whether the version that was uploaded last, or that the file began with, is all of it."""
        written = self._tree.written(inode)
        if written is None:
            return True
        with self._stages.use(written.stage) as stage:
            return _is_sent(stage, Note.of(written), self._sent_path(written.stage))

    async def bring_up(self, inode: InodeNo) -> bool:
        """Upload what is new. Return whether anything was. Raises: ConflictError; UNAVAILABLE and TIMEOUT after the deadline;
        what the store says."""
        for tries_left in reversed(range(TRIES)):
            try:
                return await self._bring_up(inode)
            except CacheError as error:
                # NOT_FOUND: of parts, as the upload was completed, or ended by somebody
                if error.kind not in (*_CONFLICTS, ErrorKind.NOT_FOUND) or not tries_left:
                    raise
                if await self.adopt_own(inode):
                    continue
                if isinstance(error, ConflictError):
                    raise
                log.info("an upload was ended by the store, and is begun again: %s", error)
                self._tree.forget_parts(inode)
                written = self._tree.written(inode)
                if written is not None:
                    self._tree.set_note(inode, Note.of(written).without_upload())
        raise AssertionError("unreachable")

    async def adopt_own(self, inode: InodeNo) -> bool:
        """The store has another version than the file began with. It may be one that we made ourselves, whose answer was lost
        with the process that asked: then that is what the next upload replaces. Return whether it was."""
        written, row = self._tree.written(inode), self._inode_row(inode)
        if written is None or row is None:
            return False
        note = Note.of(written)
        opened = self._sources.of(row.source)
        writer = opened.require_writer()
        connection = self._tree.connection
        steps = [f"set-{connection:x}-", f"mv-{connection:x}-", *([note.operation] if note.operation else [])]
        entry = await self._retried(opened, lambda: writer.own_version(row.path, steps, note.upload_id))
        if entry is None or entry.version == note.expected:
            return False
        log.info("%s: what was sent before has arrived", opened.source.url)
        self._tree.forget_parts(inode)
        size = min(note.clean_size, entry.size)
        self._tree.set_note(inode, replace(note.without_upload(), expected=entry.version, clean_size=size))
        return True

    async def _bring_up(self, inode: InodeNo) -> bool:
        written = self._tree.written(inode)
        row = self._inode_row(inode)
        if written is None or row is None or written.flags & WriteFlag.UNLINKED:
            return False
        note = Note.of(written)
        with self._stages.use(written.stage) as stage:
            if _is_sent(stage, note, self._sent_path(written.stage)):
                return False
            opened = self._sources.of(row.source)
            job = _Job(inode, row, note, stage, opened, opened.require_writer())
            size = stage.size
            is_whole = not note.upload_id and size <= min(WHOLE_BYTES, job.writer.capabilities.most_put_bytes)
            if is_whole and job.writer.capabilities.recognizes_repeats:
                entry, sent = await self._put(job, size)
            else:
                job = await self._begun(job)
                entry, sent = await self._upload_once(job)
            sent_text = self._store_sent(written.stage, sent)
            done = replace(job.note.settled(), expected=entry.version, clean_size=entry.size, error="", sent=sent_text)
            self._tree.commit_version(inode, entry, done)
            self._begun_here.discard(inode)
        return True

    async def stream(self, inode: InodeNo) -> None:
        """Send parts that are full of a file that grows. Errors are left to `bring_up`."""
        written = self._tree.written(inode)
        row = self._inode_row(inode)
        if written is None or row is None or written.flags & WriteFlag.UNLINKED:
            return
        with self._stages.use(written.stage) as stage:
            note = Note.of(written)
            if stage.base_limit or (not note.upload_id and stage.size < WHOLE_BYTES + FIRST_BYTES):
                return
            opened = self._sources.of(row.source)
            job = _Job(inode, row, note, stage, opened, opened.require_writer())
            job = await self._begun(job)
            sent = self._tree.parts(inode)
            number = max(sent, default=0) + 1
            while part_range(number).end + REGION <= stage.size:
                group: list[PartRange] = []
                while len(group) < PARALLEL_PARTS and part_range(number).end + REGION <= stage.size:
                    group.append(part_range(number))
                    number += 1
                await self._send(job, group)

    # -- one object

    async def _put(self, job: _Job, size: int) -> tuple[Entry, bytes]:
        step = _step_of(job.note)
        self._begun_here.add(job.inode)
        composed: tuple[BufferBody, bytes] | None = None  # the bytes, and what of the stage they are
        for _ in range(MAX_ROUNDS):
            changes = job.stage.raw_changes(size)
            try:
                composed = await self._compose(job, size), changes
                if job.stage.raw_changes(size) == changes and job.stage.size == size:
                    break
            except CacheError as error:
                if error.kind is not ErrorKind.BUSY:
                    raise
            size = job.stage.size
        if composed is None:
            raise CacheError(ErrorKind.BUSY, CUT_OFF)
        data, changes = composed
        metadata = self._metadata(job)
        entry = await self._retried(
            job.opened,
            lambda: job.writer.put(job.row.path, data, metadata, job.note.expected, step),
            is_last=True,
        )
        return self._known_time(job, entry), changes

    async def _compose(self, job: _Job, size: int) -> BufferBody:
        target = memoryview(bytearray(size))
        put_together = functools.partial(compose, job.stage, 0, target, self._base_reader(job))
        if size <= COMPOSED_AT_ONCE and all(run.is_new for run in job.stage.runs(0, size)):  # not worth a thread
            put_together()
        else:
            await self._retried(job.opened, put_together)
        return BufferBody(target)

    # -- parts

    async def _begun(self, job: _Job) -> _Job:
        if job.note.upload_id:
            return job
        step = _step_of(job.note)
        self._begun_here.add(job.inode)
        metadata = self._metadata(job)
        upload = await self._retried(job.opened, lambda: job.writer.begin_upload(job.row.path, metadata, job.note.expected, step))
        job = replace(job, note=replace(job.note, upload_id=upload.id, step=step))
        self._tree.set_note(job.inode, job.note)
        return job

    async def _upload_once(self, job: _Job) -> tuple[Entry, bytes]:
        plan = parts_of(job.stage.size)
        for _ in range(MAX_ROUNDS):
            plan = parts_of(job.stage.size)
            sent = {number: part_of_json(number, value) for number, value in self._tree.parts(job.inode).items()}
            todo = [part for part in plan if not _is_right(job.stage, part, sent.get(part.number))]
            if not todo:
                break
            try:
                for start in range(0, len(todo), PARALLEL_PARTS):
                    await self._send(job, todo[start : start + PARALLEL_PARTS])
            except CacheError as error:
                if error.kind is not ErrorKind.BUSY:
                    raise
        sent = {number: part_of_json(number, value) for number, value in self._tree.parts(job.inode).items()}
        if any(part.number not in sent or sent[part.number][0].size != part.end - part.start for part in plan):
            raise CacheError(ErrorKind.BUSY, CUT_OFF)
        parts = [sent[part.number][0] for part in plan]
        upload = job.note.upload(job.row.path, self._metadata(job))
        entry = await self._retried(job.opened, lambda: job.writer.complete(upload, parts, job.note.expected), is_last=True)
        changes = b"".join(sent[part.number][1] for part in plan)
        return self._known_time(job, entry), changes

    async def _send(self, job: _Job, parts: list[PartRange]) -> None:
        failures: list[CacheError] = []

        async def send(part: PartRange) -> None:
            try:
                changes = job.stage.raw_changes(part.end, part.start)
                made = await self._retried(job.opened, functools.partial(self._send_part, job, part))
                self._tree.put_part(job.inode, part.number, part_to_json(made, changes))
            except CacheError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for part in parts:
                nursery.start_soon(send, part)
        if failures:
            raise failures[0]

    def _send_part(self, job: _Job, part: PartRange) -> Part:
        """In a worker thread."""
        upload = job.note.upload(job.row.path, self._metadata(job))
        size = part.end - part.start
        if job.note.expected is not None and self._is_unchanged(job, part):
            return job.writer.copy_part(upload, part.number, part.start, size, job.row.path, job.note.expected, part.start)
        read_base = self._base_reader(job)
        if size > KEPT_BYTES:
            body = ComposedBody(job.stage, part.start, part.end, read_base)
            return job.writer.put_part(upload, part.number, part.start, body)
        with self._buffers.borrow(size) as buffer:
            body = ComposedBody(job.stage, part.start, part.end, read_base, buffer)
            return job.writer.put_part(upload, part.number, part.start, body)

    def _is_unchanged(self, job: _Job, part: PartRange) -> bool:
        """Whether the version in the store has the same bytes there."""
        if part.end > job.note.clean_size or (part.end != job.note.clean_size and part.end % REGION):
            return False
        sent = self._load_sent(job.note, job.inode)
        first, last = part.start // REGION, -(-part.end // REGION)
        now = job.stage.raw_changes(part.end, part.start)
        before = sent[first * 4 : last * 4] if sent else bytes(len(now))
        return now == before

    # -- together

    def _base_reader(self, job: _Job) -> Callable[[int, int], bytes]:
        def read(offset: int, length: int) -> bytes:
            if job.note.expected is None:
                raise CacheError(ErrorKind.BUG, "a file that was never uploaded has no base; please report this")
            return bytes(job.opened.source.read(job.row.path, job.note.expected, offset, length))

        return read

    def _metadata(self, job: _Job) -> Metadata:
        mtime_ns = os.fstat(job.stage.fd).st_mtime_ns
        return metadata_of(job.row, job.note.xattrs, mtime_ns=mtime_ns)

    def _known_time(self, job: _Job, entry: Entry) -> Entry:
        return entry._replace(mtime_ns=os.fstat(job.stage.fd).st_mtime_ns)

    def _sent_path(self, stage: int) -> Path:
        return self._stages.directory / f"{stage:x}.sent"

    def _store_sent(self, stage: int, sent: bytes) -> str:
        """Keep what was sent of each region: in the note, or beside the stage if there is much of it."""
        if len(sent) <= MAX_NOTED_BYTES:
            return sent.hex()
        path = self._sent_path(stage)
        new = path.with_suffix(".new")
        new.write_bytes(sent)
        new.replace(path)
        return IN_FILE

    def _load_sent(self, note: Note, inode: InodeNo) -> bytes:
        written = self._tree.written(inode)
        return b"" if written is None else load_sent(note, self._sent_path(written.stage))

    async def _call(self, opened: OpenSource, run: Callable[[], T]) -> T:
        result: T = await opened.gate.call(run, Priority.DEMAND)
        return result

    async def _retried(self, opened: OpenSource, run: Callable[[], T], *, is_last: bool = False) -> T:
        """Ask until the store answers, or the deadline. `is_last`: of an upload, where something else may be there by now."""
        deadline = time.monotonic() + self._deadline_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._call(opened, run)
            except CacheError as error:
                if error.kind in _CONFLICTS and (is_last or error.kind is ErrorKind.EXISTS):
                    raise ConflictError(error) from error
                if (
                    not error.is_retryable
                    or error.kind in (ErrorKind.NO_SPACE, ErrorKind.BUSY)
                    or time.monotonic() + pause > deadline
                ):
                    raise
                wait = max(pause, error.retry_after_seconds or 0.0)
            await trio.sleep(min(wait, max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _step_of(note: Note) -> str:
    """Return an id of its own for each time that something is sent: the same one would mean the same bytes."""
    return f"{note.operation}.{secrets.token_hex(4)}"


def load_sent(note: Note, path: Path) -> bytes:
    if note.sent != IN_FILE:
        return bytes.fromhex(note.sent)
    try:
        return path.read_bytes()
    except OSError:
        return b""  # then everything counts as new


def _is_sent(stage: Stage, note: Note, path: Path) -> bool:
    if note.clean_size != stage.size:
        return False
    now = stage.raw_changes(stage.size)
    sent = load_sent(note, path) if note.sent else bytes(len(now))
    return now == sent


def _is_right(stage: Stage, part: PartRange, sent: tuple[Part, bytes] | None) -> bool:
    return sent is not None and sent[0].size == part.end - part.start and sent[1] == stage.raw_changes(part.end, part.start)
