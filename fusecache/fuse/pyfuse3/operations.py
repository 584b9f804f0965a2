"""FUSE requests of pyfuse3, answered by the filesystem; misses are awaited. Runs in pyfuse3's Trio loop, in one thread.

No request's handler has a checkpoint between the filesystem's `read` and pyfuse3's reply, so that the thread's read buffer can
be handed out. Interrupts are libfuse's: it does not tell, so a killed reader waits until its miss is answered (the mount's
deadline at most)."""

from __future__ import annotations

import errno
import functools
import logging
import stat
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import pyfuse3
import trio

from fusecache.contract.errors import ANSWERS, CacheError, ErrorKind
from fusecache.contract.messages import STATUS_BOUNCE, STATUS_OK, Answer, Op, Request
from fusecache.contract.shared_memory import Counter
from fusecache.fuse.filesystem_protocol import Attributes, Buffer, DirectoryEntry, DirectoryPart, Filesystem, Miss, MissClient

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

_ENTRIES_AT_ONCE = 32  # a READDIRPLUS of one page holds about 20
_MAX_ROUNDS = 10_000  # as the native engine: a miss that is answered this often will not end by itself
_TROUBLE = frozenset({errno.EIO, errno.ETIMEDOUT, errno.ENOSPC, errno.EBUSY})


def _answered(
    method: Callable[Concatenate[CacheOperations, _P], Awaitable[_R]],
) -> Callable[Concatenate[CacheOperations, _P], Awaitable[_R]]:
    """Convert everything but trio.Cancelled: pyfuse3 ends the session on any exception but FUSEError."""

    @functools.wraps(method)
    async def answered(self: CacheOperations, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        self.counters[Counter.REQUESTS] += 1
        try:
            return await method(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except CacheError as error:
            log.debug("errno %d: %s", error.errno, error)
            failure = error.errno
        except Exception:
            log.exception("a defect answers %s with EIO; please report this", method.__name__)
            failure = errno.EIO
        if method.__name__ == "read":
            self.counters[Counter.READ_ERRORS] += 1
        elif failure in _TROUBLE:
            self.counters[Counter.OTHER_ERRORS] += 1
        raise pyfuse3.FUSEError(failure)

    return answered  # type: ignore[return-value]


async def _read_only(*_: object) -> NoReturn:
    raise pyfuse3.FUSEError(errno.EROFS)


class CacheOperations(pyfuse3.Operations):  # type: ignore[misc]
    """What is not defined here answers ENOSYS: the kernel never asks again and does the default."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, filesystem: Filesystem, misses: MissClient, counters: memoryview) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._misses = misses
        self.counters = counters

    def init(self) -> None: ...

    # The mount is read-only, so that the kernel refuses these by itself.
    setattr = mknod = mkdir = unlink = rmdir = symlink = rename = link = create = write = setxattr = removexattr = _read_only

    @_answered
    async def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        answer = await self._ask(self._filesystem.lookup, parent, name)
        if answer.attributes is None:
            if answer.entry_ttl_seconds <= 0:
                raise pyfuse3.FUSEError(errno.ENOENT)
            negative = pyfuse3.EntryAttributes()  # inode 0: the kernel remembers that there is nothing
            negative.entry_timeout = answer.entry_ttl_seconds
            return negative
        return _entry(answer.attributes, answer.entry_ttl_seconds, answer.attributes_ttl_seconds)

    @_answered
    async def getattr(self, inode: int, ctx: Any) -> Any:
        attributes, seconds = await self._ask(self._filesystem.getattr, inode)
        return _entry(attributes, 0.0, seconds)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None: ...

    @_answered
    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return await self._ask(self._filesystem.readlink, inode)

    @_answered
    async def opendir(self, inode: int, ctx: Any) -> int:
        await self._ask(self._filesystem.opendir, inode)  # pyfuse3 cannot let the kernel keep its copy
        return inode

    async def releasedir(self, fh: int) -> None: ...

    @_answered
    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        part = await self._ask(self._filesystem.readdir, fh, start_id, _ENTRIES_AT_ONCE, True)
        told = 0
        while part.entries:
            for entry in part.entries:
                if not await self._tell_entry(fh, part, entry, token, told):
                    return
                told += 1
            try:
                part = self._filesystem.readdir(fh, part.entries[-1].offset, _ENTRIES_AT_ONCE, True)
            except Miss:
                return  # the kernel comes back for the rest

    async def _tell_entry(self, parent: int, part: DirectoryPart, entry: DirectoryEntry, token: Any, told: int) -> bool:
        """Return whether there may be room for more. libfuse has no answer without attributes: what is not known is looked up."""
        if entry.attributes is not None:
            reply = _entry(entry.attributes, part.entry_ttl_seconds, part.attributes_ttl_seconds)
        elif entry.name in (b".", b".."):
            reply = _dot(entry)  # the kernel takes no more than inode and kind of it
        else:
            try:
                found = await self._ask(self._filesystem.lookup, parent, entry.name)
            except CacheError as error:
                if error.kind in (ErrorKind.NOT_FOUND, ErrorKind.STALE):
                    return True
                if told:
                    return False  # the kernel comes back for this one, and gets the error
                raise
            if found.attributes is None:
                return True
            reply = _entry(found.attributes, found.entry_ttl_seconds, found.attributes_ttl_seconds)
        return bool(pyfuse3.readdir_reply(token, entry.name, reply, entry.offset))

    @_answered
    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        answer = await self._ask(self._filesystem.open, inode, flags)
        assert answer.container_fd < 0, "libfuse 3.14 knows no passthrough"
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def release(self, fh: int) -> None: ...

    @_answered
    async def read(self, fh: int, off: int, size: int) -> Buffer:
        counters = self.counters
        try:
            pieces = self._filesystem.read(fh, off, size)
        except Miss as miss:
            counters[Counter.MISSES] += 1
            pieces = await self._after_misses(miss, self._filesystem.read, fh, off, size)
            counters[Counter.MISS_BYTES] += sum(map(len, pieces))
        else:
            if pieces:
                counters[Counter.HITS] += 1
                counters[Counter.HIT_BYTES] += sum(map(len, pieces))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @_answered
    async def statfs(self, ctx: Any) -> Any:
        found = await self._ask(self._filesystem.statfs)
        reply = pyfuse3.StatvfsData()
        reply.f_bsize = reply.f_frsize = found.block_size
        reply.f_blocks = found.blocks
        reply.f_bfree = reply.f_bavail = found.blocks_free
        reply.f_files = found.files
        reply.f_ffree = reply.f_favail = found.files_free
        reply.f_namemax = found.name_max
        return reply

    @_answered
    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        return await self._ask(self._filesystem.getxattr, inode, name)

    @_answered
    async def listxattr(self, inode: int, ctx: Any) -> Sequence[bytes]:
        return await self._ask(self._filesystem.listxattr, inode)

    # -- misses

    async def _ask(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return call(*args, **kwargs)
        except Miss as miss:
            first = miss
        return await self._after_misses(first, call, *args, **kwargs)

    async def _after_misses(self, miss: Miss, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Send the miss to fetch and call again, until it is none. Cancellation: the request is cancelled at fetch."""
        try:
            for _ in range(_MAX_ROUNDS):
                asked, answer = miss, await self._fetch(miss)
                try:
                    if answer.status == STATUS_OK:
                        return call(*args, **kwargs)
                    if answer.status == STATUS_BOUNCE:
                        return self._filesystem.read_bounced(answer)  # type: ignore[return-value]  # only a READ is answered so
                    raise CacheError(ErrorKind(answer.status), f"fetch answered errno {ANSWERS[ErrorKind(answer.status)].errno}")
                except Miss as again:
                    miss = again
                finally:
                    # The bytes are in this thread's buffer now; the reply follows without a checkpoint.
                    if asked.op is Op.READ:
                        self._misses.done(answer.token)
            raise CacheError(
                ErrorKind.BUG, f"fetch answered {miss.op.name} of inode {miss.inode} {_MAX_ROUNDS} times; it is still missing"
            )
        finally:
            self._filesystem.end_miss(miss)

    async def _fetch(self, miss: Miss) -> Answer:
        arrived = trio.Event()
        answers: list[Answer] = []
        loop = trio.lowlevel.current_trio_token()

        def take(answer: Answer) -> None:
            answers.append(answer)
            arrived.set()

        def on_answer(answer: Answer) -> None:  # in the miss client's thread
            loop.run_sync_soon(take, answer)

        token = self._misses.submit(Request(miss.op, 0, miss.inode, miss.offset, miss.size, miss.name), on_answer)
        try:
            await arrived.wait()
        except trio.Cancelled:
            self._misses.cancel(token)
            raise
        return answers[0]


def _entry(attributes: Attributes, entry_seconds: float, attributes_seconds: float) -> Any:
    reply = pyfuse3.EntryAttributes()
    reply.st_ino = attributes.inode
    reply.st_mode = attributes.mode
    reply.st_nlink = attributes.nlink
    reply.st_uid = attributes.uid
    reply.st_gid = attributes.gid
    reply.st_size = attributes.size
    reply.st_blocks = attributes.blocks
    reply.st_mtime_ns = reply.st_atime_ns = attributes.mtime_ns
    reply.st_ctime_ns = attributes.ctime_ns
    reply.entry_timeout = entry_seconds
    reply.attr_timeout = attributes_seconds
    return reply


def _dot(entry: DirectoryEntry) -> Any:
    reply = pyfuse3.EntryAttributes()
    reply.st_ino = entry.inode
    reply.st_mode = stat.S_IFMT(entry.kind_mode)
    reply.entry_timeout = reply.attr_timeout = 0
    return reply
