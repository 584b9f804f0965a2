"""Files that are open for writing: their stages, their way up to the store, and what becomes of them when they are closed.

State: which files are being streamed, and which versions we replaced ourselves lately; everything that must survive is in the
index and in the stages.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from fusecache.contract.changes import Change
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import WriteMode
from fusecache.fetch.acknowledged import Acknowledged
from fusecache.fetch.closed_files import ClosedFiles
from fusecache.fetch.kept_aside import keep_aside
from fusecache.fetch.uploads import Uploads
from fusecache.fetch.write_attributes import KeptXattrs
from fusecache.fetch.write_caching import WriteCaching
from fusecache.fetch.write_context import WriteContext
from fusecache.fetch.written import Note, new_operation
from fusecache.index.inodes import InodeFlag, InodeNo
from fusecache.index.writes import WriteFlag, WriteRow
from fusecache.source.protocol import Entry, EntryKind
from fusecache.source.write_protocol import Metadata
from fusecache.tiers.stage import Stage

log = logging.getLogger(__name__)

REMEMBERED_BASES = 4096
SHORT_PART = 16  # of the disk: with less than that free, what was written goes to the store at once


class OpenFiles:
    def __init__(
        self,
        context: WriteContext,
        uploads: Uploads,
        caching: WriteCaching,
        xattrs: KeptXattrs,
        acknowledged: Acknowledged,
    ) -> None:
        self._context = context
        self._directory = str(context.directory)  # as a path it is put together slowly, and that four times for each file
        self._acknowledged = acknowledged
        self._uploads = uploads
        self._caching = caching
        self._xattrs = xattrs
        self._streaming: set[InodeNo] = set()
        self._given_up: set[InodeNo] = set()
        self._writes_back = context.spec.write_mode is WriteMode.BACK
        # A rename that comes before the upload costs no copy at the store, and who writes many files does not share the processor
        # with their uploads.
        self._closed = ClosedFiles(self._settle, context.spec.write_back_delay_seconds if self._writes_back else 0.0)
        self._replaced_bases: OrderedDict[InodeNo, None] = OrderedDict()
        self._next_stage = 1

    def start(self, *, fresh_connection: bool) -> None:
        """Find what a predecessor left, and go on with it."""
        if fresh_connection:  # nobody has open what lost its name
            for inode, row in self._context.writes.all_written():
                if row.flags & WriteFlag.UNLINKED:
                    self._context.writes.drop_stage(inode)
                    self.remove_stage(row.stage)
        self._uploads.start()
        known = self._context.writes.all_written()
        used = {row.stage for _, row in known}
        self._next_stage = _first_number()
        for number in used:
            Path(self._done_path(number)).unlink(missing_ok=True)
        self._clean_up(used | self._acknowledged.journal.stages())
        for inode, _ in known:
            found = self._context.tree.inode(inode)
            is_lost = found is not None and self._context.sources.find(found.source) is None  # it is set aside
            self._closed.put(inode, at_once=is_lost)
        self._context.nursery.start_soon(self._closed.run, self._context.nursery)

    def _clean_up(self, used: set[int]) -> None:
        """Remove stages that nobody knows and that are done with, or that nobody wrote to; others hold what was never uploaded,
        and are kept."""
        numbers = set()
        for file in self._context.directory.iterdir():
            with contextlib.suppress(ValueError):
                numbers.add(int(file.name.partition(".")[0], 16))
        for number in sorted(numbers - used):
            if os.path.exists(self._done_path(number)):
                self.remove_stage(number)
                continue
            try:
                with contextlib.closing(Stage.open(self._context.directory, f"{number:x}")) as stage:
                    is_untouched = not any(stage.raw_changes(max(stage.size, 1)))
            except CacheError:
                is_untouched = True
            if is_untouched:
                self.remove_stage(number)
            else:
                log.error(
                    "%s/%x.data was not uploaded, and its name is lost with the index; it is kept",
                    self._context.directory,
                    number,
                )

    async def sync(self, inode: InodeNo) -> None:
        """Return when what was written is safe: in the store, or when writing back in the journal on the local disk. Raises: what
        kept it from there."""
        if not self._writes_back:
            await self.upload(inode)
            return
        inode = self._context.writes.resolve(inode)
        self._closed.note_writing()
        await self._acknowledged.acknowledge(inode)
        self._closed.put(inode)  # one that stays open must reach the store some time, too

    async def upload(self, inode: InodeNo) -> None:
        """Return when the store has what was written. Raises: what kept it from there."""
        async with self._context.file(inode) as inode:
            await self.bring_up(inode)

    def take_recovered(self, inode: InodeNo) -> None:
        """Go on with what was acknowledged before a power cut, and perhaps sent."""
        self._uploads.note_begun(inode)
        self.settle(inode)

    async def adopt_own(self, inode: InodeNo) -> None:
        """With the lock held: know what the store has of a file, whose upload may have ended without an answer."""
        if self._context.writes.written(inode) is not None and self._uploads.is_begun(inode):
            await self._uploads.adopt_own(inode)

    def is_begun(self, inode: InodeNo) -> bool:
        return self._uploads.is_begun(inode)

    def note_written(self, inode: InodeNo) -> None:
        """A file has new bytes: parts of it may go to the store already."""
        inode = self._context.writes.resolve(inode)
        if inode not in self._streaming:
            self._streaming.add(inode)
            self._context.nursery.start_soon(self._stream, inode)

    async def _stream(self, inode: InodeNo) -> None:
        try:
            async with self._context.lock(inode):
                await self._uploads.stream(inode)
        except CacheError as error:
            log.info("parts of a file that is being written are sent later: %s", error)
        finally:
            self._streaming.discard(inode)

    async def is_replaced_base(self, inode: InodeNo) -> bool:
        """Whether a version that the store does not have any more lay under a file until we replaced it ourselves."""
        if inode in self._replaced_bases:
            return True
        owner = self._context.writes.owner_of_base(inode)
        if owner is None:
            return False
        async with self._context.lock(owner):  # an upload may be between the store and the index
            pass
        return inode in self._replaced_bases

    async def create(self, change: Change) -> InodeNo:
        is_opened = not change.flags & os.O_PATH
        handle = change.unique if is_opened else 0
        with contextlib.suppress(CacheError):
            await self._context.listing.look_up(change.inode, change.name)
        place = self._context.writes.place(change.inode, change.name)
        self._context.writer_of(place.parent_row)
        if place.row is not None:
            if change.flags & os.O_EXCL:
                raise CacheError(ErrorKind.EXISTS, "the name exists")
            if place.row.kind == EntryKind.DIRECTORY:
                raise CacheError(ErrorKind.IS_A_DIRECTORY, "a directory")
            return await self._open_inode(change, place.inode, handle)
        number = self._new_stage(0)
        inode = self._context.writes.create(change, place, number, handle=handle)
        if not is_opened:
            await self.sync(inode)
            self.settle(inode)
        return inode

    async def open(self, change: Change) -> InodeNo:
        if self._context.spec.close_to_open:
            await self._check_version(self._context.writes.resolve(change.inode))
        if change.flags & os.O_ACCMODE == os.O_RDONLY:
            return change.inode
        return await self._open_inode(change, self._context.writes.resolve(change.inode), change.unique)

    async def truncate(self, change: Change) -> InodeNo:
        """Cut a file off, or lengthen it. Up to the store at once, unless somebody has it open and will close it."""
        size = int(change.value)
        inode = self._context.writes.resolve(change.inode)
        await self._make_exact(inode)
        async with self._context.file(inode) as inode:
            written = self._context.writes.written(inode)
            if written is None:
                await self._begin(None, inode, 0)
                written = self._context.writes.written(inode)
                assert written is not None
            if self._acknowledged.journal.has(written.stage):
                await self.bring_up(inode)  # what follows may never be acknowledged, and this was
            with self._context.stages.use(written.stage) as stage:
                try:
                    stage.truncate(size)
                except OSError as error:
                    kind = ErrorKind.INVALID if error.errno in (errno.EINVAL, errno.EFBIG) else ErrorKind.NO_SPACE
                    raise CacheError(kind, f"the file cannot be {size} bytes long: {error.strerror}") from error
            if not self._context.writes.is_open(inode):
                self.settle(inode)
                await self.bring_up(inode)
            self._context.writes.remember(change.unique, {"inode": inode})
        return inode

    async def _open_inode(self, change: Change, inode: InodeNo, handle: int) -> InodeNo:
        await self._make_exact(inode)
        async with self._context.file(inode) as inode:
            if self._context.writes.written(inode) is None:
                return await self._begin(change, inode, handle)
            self._context.writes.open_again(change, inode, handle=handle)
            return inode

    async def _check_version(self, inode: InodeNo) -> None:
        """Raises: STALE if the source has another version than this, so that the kernel looks the name up again."""
        row = self._context.tree.inode(inode)
        if row is None or row.kind != EntryKind.FILE or self._context.writes.written(inode) is not None:
            return
        name = row.path.rpartition(b"/")[2]
        with contextlib.suppress(CacheError):
            await self._context.listing.check_name(row.parent, name)
        if self._context.writes.place(row.parent, name).inode != self._context.writes.resolve(inode):
            raise CacheError(ErrorKind.STALE, "the source has another version by now")

    async def _make_exact(self, inode: InodeNo) -> None:
        row = self._context.tree.inode(inode)
        if row is not None and row.flags & InodeFlag.NEEDS_STAT:
            await self._context.listing.make_exact(inode)

    async def _begin(self, change: Change | None, inode: InodeNo, handle: int) -> InodeNo:
        """With the lock held: the file gets a stage. `change`: what that is all of."""
        row = self._context.tree.inode(inode)
        if row is None:
            raise CacheError(ErrorKind.STALE, "the file is gone")
        if row.kind != EntryKind.FILE:
            raise CacheError(ErrorKind.IS_A_DIRECTORY if row.kind == EntryKind.DIRECTORY else ErrorKind.INVALID, "no file")
        self._context.writer_of(row)
        xattrs = await self._xattrs.of(inode, row)
        number = self._new_stage(row.size, row.mtime_ns)
        note = Note(row.version, row.size, operation=new_operation(), xattrs=xattrs)
        self._context.writes.begin(change, inode, number, note, handle=handle)
        return inode

    async def release(self, change: Change) -> InodeNo:
        inode = self._context.writes.release(change)
        if inode is not None and not self._context.writes.is_open(inode):
            self.settle(inode)
        return InodeNo(0)

    def settle(self, inode: InodeNo) -> None:
        """A file that nobody has open becomes an object like any other, some time after this."""
        written = self._context.writes.written(inode)
        self._closed.put(inode, at_once=written is not None and bool(written.flags & WriteFlag.UNLINKED))

    async def _settle(self, inode: InodeNo) -> bool:
        async with self._context.lock(inode):
            written = self._context.writes.written(inode)
            is_open = self._context.writes.is_open(inode)
            if written is None or (is_open and not self._writes_back):
                return True
            try:
                await self.bring_up(inode)
            except CacheError as error:
                if is_open:
                    return True  # its close asks for it again
                if error.is_retryable:
                    return False
                self._given_up.add(inode)
            else:
                if not is_open:
                    await self._finish_or_say_why(inode)
            return True

    async def _finish_or_say_why(self, inode: InodeNo) -> None:
        """The store has all of it: what goes wrong now costs no bytes, and must not end the process."""
        try:
            await self._finish(inode)
        except CacheError as error:
            self._given_up.add(inode)
            log.error("inode %d was uploaded, and stays as it was written until the next mount: %s", inode, error)

    async def _finish(self, inode: InodeNo) -> None:
        self._keep_removed(inode)
        written = self._context.writes.written(inode)
        if written is None:
            return
        row = self._context.tree.inode(written.base)
        if row is not None and written.base != inode:
            with self._context.stages.use(written.stage) as stage:
                await self._caching.keep(written.base, row, stage)
        if self._context.writes.is_open(inode) or not self._uploads.is_clean(inode):
            return  # opened again meanwhile
        if written.flags & WriteFlag.UNLINKED:
            await self.abort(inode)
        # For a successor, if we die before the stage is gone.
        os.close(os.open(self._done_path(written.stage), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._context.pass_on(self._context.writes.finish(inode))
        await self._acknowledged.forget(written.stage)
        self.remove_stage(written.stage)

    def _keep_removed(self, inode: InodeNo) -> None:
        """What was written to a file without a name becomes a version that no store has, for those who still read it."""
        written = self._context.writes.written(inode)
        if written is None or not written.flags & WriteFlag.UNLINKED or self._uploads.is_sent(inode):
            return
        with self._context.stages.use(written.stage) as stage:
            status = os.fstat(stage.fd)
        entry = Entry(b"", EntryKind.FILE, status.st_size, status.st_mtime_ns, b"removed-%x" % written.stage)
        self._context.writes.commit_version(inode, entry, Note.of(written))

    def finish(self) -> None:
        """The mount is gone: nobody has anything open."""
        self._context.writes.close_handles()
        for inode, _ in self._context.writes.all_written():
            self._closed.put(inode, at_once=True)
        self._closed.hurry()

    def note_room(self, is_short: bool) -> None:
        """What is written back waits no longer when there is little room."""
        disk = shutil.disk_usage(self._directory)
        self._closed.is_short = is_short or disk.free < disk.total // SHORT_PART

    def staged_bytes(self) -> int:
        """Return the space that stages take on the disk."""
        total = 0
        with os.scandir(self._context.directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_blocks * 512
        return total

    def pending(self) -> tuple[int, int]:
        """Return for how many files it is worth to wait until they are uploaded, and their bytes. Not for what a program was told
        could not be uploaded, nor for what will not get better by waiting."""
        through = self._context.spec.write_mode is WriteMode.THROUGH
        return self._count(lambda inode, row: inode not in self._given_up and not (through and Note.of(row).error))

    def waiting(self) -> tuple[int, int]:
        """Return how many files the store does not have as they were written, and their bytes."""
        return self._count(lambda inode, row: not self._uploads.is_clean(inode))

    def _count(self, counts: Callable[[InodeNo, WriteRow], bool]) -> tuple[int, int]:
        files = size = 0
        for inode, row in self._context.writes.all_written():
            with contextlib.suppress(OSError, CacheError):  # it is closed at this moment
                if not row.flags & WriteFlag.UNLINKED and counts(inode, row):
                    size += (self._context.directory / f"{row.stage:x}.data").stat().st_size
                    files += 1
        return files, size

    async def bring_up(self, inode: InodeNo) -> None:
        """With the lock held."""
        before = self._context.writes.written(inode)
        try:
            if await self._uploads.bring_up(inode) and before is not None:
                self._replaced_bases[before.base] = None
                while len(self._replaced_bases) > REMEMBERED_BASES:
                    self._replaced_bases.popitem(last=False)
        except CacheError as error:
            if error.kind is ErrorKind.STALE:
                await self._set_aside(inode, error)
            else:
                await self._note_failure(inode, error)
            raise
        self._given_up.discard(inode)
        await self._acknowledged.renew(inode)

    async def _set_aside(self, inode: InodeNo, error: CacheError) -> None:
        """The store has another version than the file began with, and keeps it, or it is no store of this mount any more; what
        was written here is kept beside it."""
        written, row = self._context.writes.written(inode), self._context.tree.inode(inode)
        if written is None or row is None:
            return
        await self.abort(inode)
        self._context.stages.forget(written.stage)
        opened = self._context.sources.find(row.source)
        url = "" if opened is None else opened.source.url
        kept = keep_aside(self._context.directory, written.stage, row.path, url, str(error))
        log.error("%r was not uploaded: %s; what was written here is kept as %s", row.path, error, kept)
        self._context.pass_on(self._context.writes.lose(inode))
        await self._acknowledged.forget(written.stage)
        (self._context.directory / f"{written.stage:x}.sent").unlink(missing_ok=True)

    async def _note_failure(self, inode: InodeNo, error: CacheError) -> None:
        written, row = self._context.writes.written(inode), self._context.tree.inode(inode)
        log.error("%r could not be uploaded: %s; what was written is kept", b"" if row is None else row.path, error)
        if written is not None:
            note = Note.of(written)
            self._context.writes.set_note(inode, note.with_error(str(error)))
            with contextlib.suppress(CacheError):  # kept, whatever becomes of the index
                await self._acknowledged.acknowledge(inode)

    async def abort(self, inode: InodeNo) -> None:
        """End an upload whose file is gone."""
        written, row = self._context.writes.written(inode), self._context.tree.inode(inode)
        if written is None or row is None:
            return
        note = Note.of(written)
        opened = self._context.sources.find(row.source)
        if note.upload_id and opened is not None:
            writer = opened.require_writer()
            with contextlib.suppress(CacheError):
                await opened.gate.call(lambda: writer.abort(note.upload(row.path, Metadata())))

    def _new_stage(self, size: int, mtime_ns: int = 0) -> int:
        number = self._next_stage
        self._next_stage += 1
        try:
            made = Stage.create(self._context.directory, f"{number:x}", size)
        except OSError as error:
            raise CacheError(
                ErrorKind.NO_SPACE, f"what is written has no room in {self._context.directory}: {error.strerror}"
            ) from error
        with contextlib.closing(made):
            if mtime_ns:
                os.utime(made.fd, ns=(mtime_ns, mtime_ns))
        return number

    def remove_stage(self, number: int) -> None:
        self._context.stages.remove(number)
        for end in ("sent", "done"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._directory}/{number:x}.{end}")

    def _done_path(self, number: int) -> str:
        return f"{self._directory}/{number:x}.done"


def _first_number() -> int:
    """Return where the numbers of stages begin: none that a predecessor gave out comes again, as serve may have that stage open
    still, removed or not, and would write into it."""
    return secrets.randbits(40) << 20
