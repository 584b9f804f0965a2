"""Privileged favours for serve: backing ids for passthrough, one I/O mode per inode.

State, for the life of a FUSE connection: per inode its mode, backing id and number of opens; the answers to recent questions.
Called by the supervisor from its one thread; nothing here waits. Questions and answers: contract/process.py.

Invariants: an inode's mode changes only while nobody has it open (the kernel answers EIO to a mix); a backing id is closed
after the last release and not before; a question repeated by a serve process that took over counts once.
"""

from __future__ import annotations

import array
import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusecache.custody import kernel
from fusecache.custody.event_loop import close_quietly
from fusecache.custody.favour_table import FavourTable

log = logging.getLogger(__name__)

RESENT_BIT = 1 << 63  # FUSE_UNIQUE_RESEND: the kernel asks the same request again
REMEMBERED_ANSWERS = 16384  # more than the requests that several serve processes can leave unanswered
TIER_DEPTH = 3  # directories between a tier and its containers, at most
_MAX_QUESTION_BYTES = 4096
_CACHED: dict[str, Any] = {"mode": "cached"}


@dataclass(slots=True)
class InodeMode:
    """backing_id 0: cached."""

    backing_id: int
    opens: int = 0


class Favours:
    """Answers the questions of all serve processes of one FUSE connection.

    Attributes:
        problem: why passthrough was last refused, for doctor and status; "" if it never was.
    """

    def __init__(
        self,
        fuse_fd: int,
        tier_paths: Sequence[str],
        *,
        allow_passthrough: bool,
        owner: int | None = None,
        table: FavourTable | None = None,
    ) -> None:
        """`owner`: uid of the daemon, if it is not ours. `table`: where it is kept what must outlive this process."""
        self._owner = os.geteuid() if owner is None else owner
        self._table = table
        self._fuse_fd = fuse_fd
        self._tier_paths = tuple(tier_paths)
        self._allow_passthrough = allow_passthrough
        self._modes: dict[int, InodeMode] = {}
        self._answers: dict[tuple[str, int], dict[str, Any]] = {}
        self.problem = "" if allow_passthrough else "passthrough is switched off for this mount"
        if table is not None:
            self._modes = {inode: InodeMode(backing_id, opens) for inode, backing_id, opens in table.modes()}
            self._answers = {
                (ask, unique): _opened(backing_id) if ask == "open" else {} for ask, unique, backing_id in table.take_answers()
            }

    @property
    def open_backing_ids(self) -> int:
        return sum(1 for mode in self._modes.values() if mode.backing_id)

    def answer_all(self, channel: socket.socket) -> bool:
        """Answer what waits on a favour channel; False when its other end is closed."""
        while True:
            received = array.array("i")
            try:
                data, ancillary, _, _ = channel.recvmsg(
                    _MAX_QUESTION_BYTES, socket.CMSG_SPACE(4 * received.itemsize), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return True
            except OSError:
                return False
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
            try:
                if not data:
                    return False
                answer = self._answer_datagram(data, received)
            finally:
                close_quietly(*received)
            with contextlib.suppress(OSError):  # it died: its successor asks again
                channel.send(json.dumps(answer).encode())

    def _answer_datagram(self, data: bytes, fds: Sequence[int]) -> dict[str, Any]:
        try:
            question = json.loads(data)
            return self.answer(str(question["ask"]), int(question["inode"]), int(question["unique"]), fds[0] if fds else None)
        except (ValueError, KeyError, TypeError) as error:
            log.error("serve asked a favour that makes no sense: %r (%r)", data[:200], error)
            return {"error": "not understood"}

    def answer(self, ask: str, inode: int, unique: int, container_fd: int | None) -> dict[str, Any]:
        """Answer one question, at once. `container_fd` stays the caller's. Raises: ValueError for an unknown question."""
        key = (ask, unique & ~RESENT_BIT)
        if key in self._answers:
            return self._answers[key]
        if ask == "open":
            answer = self._open(inode, container_fd)
        elif ask == "release":
            answer = self._release(inode)
        else:
            raise ValueError(f"unknown favour {ask!r}")
        self._answers[key] = answer
        if self._table is not None:
            self._table.answered(*key, answer.get("backing_id", 0))
        if len(self._answers) > REMEMBERED_ANSWERS:
            del self._answers[next(iter(self._answers))]  # the oldest: dictionaries keep their order
        return answer

    def _open(self, inode: int, container_fd: int | None) -> dict[str, Any]:
        mode = self._modes.get(inode)
        if mode is None:
            mode = self._modes[inode] = InodeMode(0 if container_fd is None else self._open_backing(container_fd))
        mode.opens += 1
        if self._table is not None:
            self._table.put(inode, mode.backing_id, mode.opens)
        return _opened(mode.backing_id)

    def _release(self, inode: int) -> dict[str, Any]:
        mode = self._modes.get(inode)
        if mode is None:
            return {}
        mode.opens -= 1
        if mode.opens and self._table is not None:
            self._table.put(inode, mode.backing_id, mode.opens)
        if mode.opens == 0:
            del self._modes[inode]
            if self._table is not None:
                self._table.drop(inode)
            if mode.backing_id:
                try:
                    kernel.close_backing(self._fuse_fd, mode.backing_id)
                except OSError as error:
                    log.warning("backing id %d was not closed: %s", mode.backing_id, error)
        return {}

    def _open_backing(self, container_fd: int) -> int:
        """Return a backing id for a container that may be handed to the kernel, else 0; remembers why not."""
        if not self._allow_passthrough:
            return 0
        refusal = self._refuse(container_fd)
        if refusal is None:
            try:
                return kernel.open_backing(self._fuse_fd, container_fd)
            except OSError as error:
                refusal = (
                    f"the kernel refused FUSE_DEV_IOC_BACKING_OPEN: {error.strerror} (it takes kernel 6.9 and CAP_SYS_ADMIN)"
                )
        if refusal != self.problem:
            log.info("no passthrough: %s", refusal)
            self.problem = refusal
        return 0

    def _refuse(self, container_fd: int) -> str | None:
        """Why this descriptor is not one of our containers; None if it is."""
        status = os.fstat(container_fd)
        if not stat.S_ISREG(status.st_mode):
            return "the descriptor is not a regular file"
        if status.st_uid != self._owner:
            return f"the container belongs to uid {status.st_uid}"
        place = os.readlink(f"/proc/self/fd/{container_fd}")
        if any(_is_at(path, place, status) for path in self._tier_paths):
            return None
        return f"{place!r} lies in no tier of this mount"


def _is_at(tier: str, place: str, status: os.stat_result) -> bool:
    """Whether a file lies in a tier, known by its inode: the path may be of another mount namespace, with the same end."""
    parts = place.split("/")
    for depth in range(1, TIER_DEPTH + 1):
        with contextlib.suppress(OSError):
            found = os.stat(os.path.join(tier, *parts[-depth:]), follow_symlinks=False)
            if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
                return True
    return False


def _opened(backing_id: int) -> dict[str, Any]:
    return {"mode": "passthrough", "backing_id": backing_id} if backing_id else _CACHED
