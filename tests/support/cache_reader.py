"""What an engine does between the kernel and the filesystem: call, wait for the miss, call again.

One reader is one serve process's filesystem and miss client; any thread may call it. Paths are bytes below the root.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from typing import TypeVar

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import STATUS_BOUNCE, STATUS_OK, Answer, Op, Request
from fusecache.contract.shared_memory import Counter
from fusecache.fuse.filesystem_protocol import ROOT_INODE, Attributes, Miss
from fusecache.serve.filesystem import CacheFilesystem
from fusecache.serve.miss_client import SocketMissClient

T = TypeVar("T")

PATIENCE_SECONDS = 30.0  # beyond every deadline of the writer: a miss that never ends fails the test
MAX_ROUNDS = 50  # misses in a row for one call; more means that it would never end


class CacheReader:
    """Attributes:
    misses_met: how many misses were waited for.
    told: INVALIDATE_* answers that came.
    """

    def __init__(self, filesystem: CacheFilesystem, misses: SocketMissClient, counters: memoryview) -> None:
        self.fs = filesystem
        self.misses = misses
        self.misses_met = 0
        self.told: list[Answer] = []
        self._counters = counters
        misses.on_invalidate(self.told.append)

    @property
    def checksum_failures(self) -> int:
        return int(self._counters[Counter.CHECKSUM_FAILURES])

    def close(self) -> None:
        self.misses.close()
        self.fs.close()

    def ask(self, call: Callable[[], T], bounced: Callable[[Answer], T] | None = None) -> T:
        """Call until it does not miss. Raises: CacheError, also for a miss that ended in an error."""
        for _ in range(MAX_ROUNDS):
            try:
                return call()
            except Miss as miss:
                answer, token = self.wait(Request(miss.op, 0, miss.inode, miss.offset, miss.size, miss.name))
                self.misses_met += 1
                leased = miss.op is Op.READ and answer.status in (STATUS_OK, STATUS_BOUNCE)
                try:
                    if answer.status == STATUS_BOUNCE:
                        assert bounced is not None
                        return bounced(answer)
                    if answer.status != STATUS_OK:
                        raise CacheError(ErrorKind(answer.status), f"{miss.op.name} failed") from None
                    try:
                        return call()
                    except Miss:
                        continue
                finally:
                    if leased:
                        self.misses.done(token)
        raise AssertionError(f"a call missed {MAX_ROUNDS} times")

    def wait(self, request: Request) -> tuple[Answer, int]:
        """Submit one request and return its answer. The caller says done."""
        arrived = threading.Event()
        answers: list[Answer] = []

        def on_answer(answer: Answer) -> None:
            answers.append(answer)
            arrived.set()

        token = self.misses.submit(request, on_answer)
        assert arrived.wait(PATIENCE_SECONDS), f"no answer to {request}"
        return answers[0], token

    # -- paths

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        try:
            return self.ask(lambda: self.fs.lookup(parent, name)).attributes
        except CacheError as error:
            if error.kind is ErrorKind.NOT_FOUND:
                return None
            raise

    def find(self, path: bytes) -> Attributes | None:
        """Look every component up; None if one does not exist."""
        found = self.ask(lambda: self.fs.getattr(ROOT_INODE))[0]
        for part in [part for part in path.split(b"/") if part]:
            if not stat.S_ISDIR(found.mode):
                return None
            child = self.lookup(found.inode, part)
            if child is None:
                return None
            found = child
        return found

    def inode(self, path: bytes) -> int:
        found = self.find(path)
        assert found is not None, f"{path!r} does not exist"
        return found.inode

    def read(self, inode: int, offset: int, size: int) -> bytes:
        def read() -> bytes:
            return b"".join(bytes(piece) for piece in self.fs.read(inode, offset, size))

        return self.ask(read, lambda answer: b"".join(bytes(piece) for piece in self.fs.read_bounced(answer)))

    def read_file(self, path: bytes) -> bytes:
        """The whole file with one read."""
        found = self.find(path)
        if found is None:
            raise CacheError(ErrorKind.NOT_FOUND, f"{path!r} does not exist")
        return self.read(found.inode, 0, found.size) if found.size else b""

    def names(self, inode: int = ROOT_INODE, count: int = 3) -> list[bytes]:
        """A complete listing in small parts, without "." and ".."."""
        self.ask(lambda: self.fs.opendir(inode))
        found: list[bytes] = []
        offset = 0
        while True:
            part = self.ask(lambda offset=offset: self.fs.readdir(inode, offset, count, False))  # type: ignore[misc]
            if not part.entries:
                return found
            offset = part.entries[-1].offset
            found += [entry.name for entry in part.entries if entry.name not in (b".", b"..")]
