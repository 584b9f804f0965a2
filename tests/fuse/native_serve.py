"""A serve-like process for the engine's tests: the native engine over a file system made of rules, with misses answered by a
thread.

Started by native_mount.py as `python native_serve.py CONFIG`, CONFIG being JSON: fuse_fd, memory_fd, layout (dict), serve_index,
and optionally settings (dict), late_seconds, pread (path of a file to read small and big from),
container (path: `big` is passed through to it). It writes "ready\\n" to stdout.

| path | what it is |
|---|---|
| small/00000 ... | 10,000 files of 100,000 bytes |
| big | 1 GiB |
| late/00 ... | 100 files of 300,000 bytes; every 128 KiB block misses once, and so does the lookup |
| bounce | 300,000 bytes that always come through BOUNCE answers |
| never/lookup, never/read | misses that are never answered |
| errors/NAME | reading attributes or bytes raises CacheError of that kind |
| defect | read raises ZeroDivisionError |
| poison | read kills this process |
| refused | read whose miss is answered TIMEOUT |
| link | symbolic link to small/00000 |
| changing | a file that has another inode after each SIGUSR1, which also invalidates its name and inode |
| growing/ | a directory with one more name after each SIGUSR1; its listing may be kept by the kernel until invalidated |
| many/ | 3,000 names of changing length, some without attributes |
"""

from __future__ import annotations

import fcntl
import heapq
import json
import mmap
import os
import random
import signal
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import STATUS_BOUNCE, STATUS_OK, Answer, Op, Request
from fusecache.contract.shared_memory import Layout
from fusecache.fuse.filesystem_protocol import (
    Attributes,
    Buffer,
    DirectoryEntry,
    DirectoryPart,
    EntryAnswer,
    Miss,
    OpenAnswer,
    Statfs,
)
from fusecache.fuse.native.engine import NativeEngine
from fusecache.fuse.native.protocol import BACKING_MAP, IOC_BACKING_CLOSE, IOC_BACKING_OPEN
from fusecache.fuse.native.settings import EngineSettings

SMALL_FILES, SMALL_BYTES = 10_000, 100_000
BIG_BYTES = 1 << 30
LATE_FILES, LATE_BYTES = 100, 300_000
MANY = 3_000
BLOCK = 128 << 10
TTL = 3600.0
SLOW_SECONDS = 3.0  # how long its disk takes
PERIOD = 1_000_003  # prime, so that a shift of a page or a block never looks right

SMALL, LATE, NEVER, ERRORS, MANY_DIR, GROWING = 2, 3, 4, 5, 6, 7
BIG, BOUNCE, NEVER_READ, DEFECT, POISON, REFUSED, LINK, SLOW, CHANGING = 10, 11, 12, 13, 14, 15, 16, 17, 20
FIRST_ERROR, FIRST_LATE, FIRST_SMALL, FIRST_MANY = 100, 1_000, 100_000, 1_000_000


def pattern() -> bytes:
    """The bytes every file is cut from, long enough for one READ from any phase."""
    once = random.Random(1).randbytes(PERIOD)
    return once + once + once[: 1 << 17]


def phase(inode: int, offset: int) -> int:
    return (offset + inode * 7919) % PERIOD


class RuleFilesystem:
    def __init__(self, pread: str | None, container: str | None = None) -> None:
        self._container = container
        self._pattern = memoryview(pattern())
        self._pread_fd = os.open(pread, os.O_RDONLY) if pread else -1
        self.present: set[object] = set()
        self.changes = 0
        self._files = {
            BIG: BIG_BYTES,
            BOUNCE: LATE_BYTES,
            NEVER_READ: 1 << 20,
            DEFECT: 4096,
            POISON: 4096,
            REFUSED: 4096,
            SLOW: 4096,
        }
        self._top = {
            b"small": SMALL,
            b"late": LATE,
            b"never": NEVER,
            b"errors": ERRORS,
            b"many": MANY_DIR,
            b"big": BIG,
            b"bounce": BOUNCE,
            b"defect": DEFECT,
            b"poison": POISON,
            b"refused": REFUSED,
            b"slow": SLOW,
            b"link": LINK,
            b"growing": GROWING,
        }

    def on_wait(self, callback: Callable[[], None]) -> None:
        self._before_waiting = callback

    def _size(self, inode: int) -> int:
        if inode >= FIRST_SMALL:
            return SMALL_BYTES
        if inode >= FIRST_LATE:
            return LATE_BYTES
        return self._files.get(inode, 4096)

    def _attributes(self, inode: int) -> Attributes:
        if inode < BIG:
            return Attributes(inode, stat.S_IFDIR | 0o555, 4096, 2, 0, 0, 1_700_000_000_123_456_789, -1_500_000_000, 8)
        if inode == LINK:
            return Attributes(inode, stat.S_IFLNK | 0o777, 11, 1, 0, 0, 0, 0, 0)
        size = self._size(inode)
        time_ns = 1_700_000_000_123_456_789
        return Attributes(inode, stat.S_IFREG | 0o444, size, 1, 7, 8, time_ns, time_ns, -(-size // 512))

    def _resolve(self, parent: int, name: bytes) -> int:
        if parent == 1 and name == b"changing":
            return CHANGING + self.changes
        if parent == 1:
            return self._top.get(name, 0)
        if parent == SMALL and name.isdigit() and int(name) < SMALL_FILES:
            return FIRST_SMALL + int(name)
        if parent == LATE and name.isdigit() and int(name) < LATE_FILES:
            return FIRST_LATE + int(name)
        if parent == NEVER and name == b"read":
            return NEVER_READ
        if parent == ERRORS and name.decode() in ErrorKind.__members__:
            return FIRST_ERROR + ErrorKind[name.decode()]
        return 0

    def lookup(self, parent: int, name: bytes) -> EntryAnswer:
        if len(name) > 255:
            raise CacheError(ErrorKind.NAME_TOO_LONG, "shorten the name")
        if (parent == NEVER and name == b"lookup") or (parent == LATE and (parent, name) not in self.present):
            raise Miss(Op.LOOKUP, parent, name=name)
        inode = self._resolve(parent, name)
        return EntryAnswer(self._attributes(inode) if inode else None, TTL if inode else 0.0, TTL)

    def getattr(self, inode: int) -> tuple[Attributes, float]:
        return self._attributes(inode), TTL

    def readlink(self, inode: int) -> bytes:
        return b"small/00000"

    def opendir(self, inode: int) -> bool:
        return True

    def readdir(self, inode: int, offset: int, count: int, plus: bool) -> DirectoryPart:
        entries: list[DirectoryEntry] = []
        for seq in range(offset, offset + count):
            if seq < 2:
                entries.append(DirectoryEntry((b".", b"..")[seq], inode, stat.S_IFDIR, seq + 1, None))
                continue
            found = self._entry(inode, seq - 2)
            if found is None:
                break
            name, child, known = found
            attributes = self._attributes(child)
            entries.append(DirectoryEntry(name, child, attributes.mode & 0o170000, seq + 1, attributes if known else None))
        return DirectoryPart(entries, TTL, TTL)

    def _entry(self, directory: int, index: int) -> tuple[bytes, int, bool] | None:
        if directory == 1 and index < len(self._top):
            name = list(self._top)[index]
            return name, self._top[name], True
        if directory == SMALL and index < SMALL_FILES:
            return b"%05d" % index, FIRST_SMALL + index, True
        if directory == LATE and index < LATE_FILES:
            return b"%02d" % index, FIRST_LATE + index, False
        if directory == GROWING and index <= self.changes:
            return b"%d" % index, FIRST_MANY + index, False
        if directory == MANY_DIR and index < MANY:
            return b"%d-" % index + b"x" * (index % 240), FIRST_MANY + index, index % 3 != 0
        return None

    def open(self, inode: int, flags: int) -> OpenAnswer:
        if inode == BIG and self._container:
            return OpenAnswer(os.open(self._container, os.O_RDONLY))
        return OpenAnswer()

    def read(self, inode: int, offset: int, size: int) -> Sequence[Buffer]:
        size = min(size, max(self._size(inode) - offset, 0))
        if inode < FIRST_SMALL and inode != BIG:
            self._read_special(inode, offset, size)
        if not size:
            return ()
        start = phase(inode, offset)
        if self._pread_fd >= 0:
            pieces = []
            while size:  # a block and a bit, as from a container
                pieces.append(os.pread(self._pread_fd, min(size, BIG_BYTES), start))
                size -= len(pieces[-1])
            return pieces
        pieces_of_memory: list[Buffer] = []
        while size:
            piece = self._pattern[start : start + min(size, 1 << 20)]
            pieces_of_memory.append(piece)
            size -= len(piece)
            start = (start + len(piece)) % PERIOD
        return pieces_of_memory

    def _read_special(self, inode: int, offset: int, size: int) -> None:
        if inode >= FIRST_LATE and size:
            for block in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1):
                if (inode, block) not in self.present:
                    raise Miss(Op.READ, inode, block * BLOCK, BLOCK)
        elif inode in (BOUNCE, NEVER_READ, REFUSED) and size:
            raise Miss(Op.READ, inode, offset, size)
        elif inode >= FIRST_ERROR and inode < FIRST_LATE:
            raise CacheError(ErrorKind(inode - FIRST_ERROR), "a test asked for this")
        elif inode == SLOW and size:
            self._before_waiting()
            time.sleep(SLOW_SECONDS)
        elif inode == DEFECT:
            _ = 1 // 0
        elif inode == POISON:
            os.kill(os.getpid(), signal.SIGKILL)

    def read_bounced(self, answer: Answer) -> Sequence[Buffer]:
        start = phase(answer.inode, answer.offset)
        return [bytes(self._pattern[start : start + answer.size])]

    def end_miss(self, miss: Miss) -> None: ...

    def statfs(self) -> Statfs:
        return Statfs(4096, 1000, 500, 20000, 10000)

    def getxattr(self, inode: int, name: bytes) -> bytes:
        if name == b"user.fusecache.version":
            return b"v%d" % inode
        raise CacheError(ErrorKind.NO_ATTRIBUTE, "no such attribute")

    def listxattr(self, inode: int) -> Sequence[bytes]:
        return [b"user.fusecache.version", b"user.fusecache.source"]


class LateMisses:
    """Answers every miss after `late_seconds`, in one thread, as the miss client does."""

    def __init__(self, filesystem: RuleFilesystem, late_seconds: float) -> None:
        self._filesystem = filesystem
        self._late_seconds = late_seconds
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Request]] = []
        self._callbacks: dict[int, Callable[[Answer], None]] = {}
        self._next = 0
        self.leased: set[int] = set()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, request: Request, on_answer: Callable[[Answer], None]) -> int:
        with self._changed:
            self._next += 1
            self._callbacks[self._next] = on_answer
            if request.inode not in (NEVER, NEVER_READ):
                heapq.heappush(self._due, (time.monotonic() + self._late_seconds, self._next, request))
                self._changed.notify()
            return self._next

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _, token, request = heapq.heappop(self._due)
                callback = self._callbacks.pop(token, None)
            if callback is not None:
                callback(self._answer(token, request))

    def _answer(self, token: int, request: Request) -> Answer:
        if request.inode == REFUSED:
            return Answer(Op.ANSWER, token, ErrorKind.TIMEOUT)
        if request.inode == BOUNCE:
            self.leased.add(token)
            return Answer(Op.ANSWER, token, STATUS_BOUNCE, request.inode, request.offset, request.size)
        if request.op is Op.READ:
            self.leased.add(token)
            self._filesystem.present.add((request.inode, request.offset // BLOCK))
        else:
            self._filesystem.present.add((request.inode, request.name))
        return Answer(Op.ANSWER, token, STATUS_OK)

    def done(self, token: int) -> None:
        self.leased.remove(token)

    def cancel(self, token: int) -> None:
        with self._changed:
            self._callbacks.pop(token, None)

    def tell(self, request: Request) -> None: ...

    def on_invalidate(self, callback: Callable[[Answer], None]) -> None:
        self._invalidate = callback

    def change(self, *_: object) -> None:
        """Handler of SIGUSR1: fetch found the source changed."""
        old = CHANGING + self._filesystem.changes
        self._filesystem.changes += 1
        for inode in (GROWING, old, FIRST_SMALL - 1):  # the last one is unknown to the kernel, which is no error
            self._invalidate(Answer(Op.INVALIDATE_INODE, inode=inode))
        self._invalidate(Answer(Op.INVALIDATE_ENTRY, inode=1, name=b"changing"))
        self._invalidate(Answer(Op.INVALIDATE_ENTRY, inode=1, name=b"unknown"))


class OwnFavours:
    """What the supervisor does for passthrough, done by this process, which is root in the tests. Prints each release."""

    def __init__(self, fuse_fd: int) -> None:
        self._fuse_fd = fuse_fd
        self._opens: dict[int, tuple[int, int]] = {}  # inode -> backing id, opens

    def open_file(self, inode: int, unique: int, container_fd: int) -> int | None:
        if container_fd < 0:
            return None
        if inode not in self._opens:
            argument = bytearray(BACKING_MAP.pack(container_fd, 0, 0))  # mutable, or ioctl would return it instead of the id
            self._opens[inode] = (fcntl.ioctl(self._fuse_fd, IOC_BACKING_OPEN, argument), 0)
        backing_id, opens = self._opens[inode]
        self._opens[inode] = (backing_id, opens + 1)
        return backing_id

    def release_file(self, inode: int, unique: int) -> None:
        if inode not in self._opens:
            return
        backing_id, opens = self._opens.pop(inode)
        if opens > 1:
            self._opens[inode] = (backing_id, opens - 1)
        else:
            fcntl.ioctl(self._fuse_fd, IOC_BACKING_CLOSE, struct.pack("<I", backing_id))
            os.write(1, b"closed\n")


def say_ready() -> None:
    os.write(1, b"ready\n")


def main() -> None:
    config: dict[str, Any] = json.loads(sys.argv[1])
    layout = Layout(**config["layout"])
    memory = mmap.mmap(config["memory_fd"], layout.total_bytes)
    filesystem = RuleFilesystem(config.get("pread"), config.get("container"))
    misses = LateMisses(filesystem, config.get("late_seconds", 0.05))
    signal.signal(signal.SIGUSR1, misses.change)
    settings = EngineSettings(**config.get("settings", {}))
    favours = OwnFavours(config["fuse_fd"]) if "container" in config else None
    engine = NativeEngine(config["fuse_fd"], memory, layout, config["serve_index"], filesystem, misses, favours, settings)
    engine.run(say_ready)


if __name__ == "__main__":
    main()
