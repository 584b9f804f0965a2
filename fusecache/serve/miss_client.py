"""The way from a reader to fetch: misses over a unix SEQPACKET socket, answers from a thread, across the death of fetch.

State: outstanding requests (token → message and callback), what could not be sent at once, the leases of answered READs. Any
thread calls; no call blocks. Threads of its own: one that receives answers and runs their callbacks (reconnecting when the
connection ends), one that sends what the socket would not take at once.

Invariants: a message is sent before all that were submitted after it; an outstanding request is sent on each new connection
once; a callback runs at most once, and not after `cancel` returned unless it was running already."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from fusecache.base.run_sockets import connect_in
from fusecache.contract import run_files
from fusecache.contract.messages import MAX_MESSAGE_BYTES, Answer, Op, Request
from fusecache.fuse.filesystem_protocol import MissClient

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.005  # the listening socket is custody's: connecting fails only for moments, or when the mount ends
_LONGEST_PAUSE_SECONDS = 0.2
# Messages without an answer that wait while fetch does not read; more are dropped, as they are only hints. A guess.
_MAX_UNSENT_HINTS = 4096
_POLL_MILLISECONDS = 1000


class LeasingMissClient(MissClient, Protocol):
    """What the filesystem needs beyond what engines do."""

    def lost_request(self, token: int) -> Request | None:
        """Return the request of an answered token if the connection that answered it has ended (its lease with it), else None."""


class _Outstanding(NamedTuple):
    request: Request
    message: bytes
    on_answer: Callable[[Answer], None]


class _Lease(NamedTuple):
    generation: int
    request: Request


class SocketMissClient:
    """Implements MissClient. `start` before anything else; `close` ends both threads.

    Attributes:
        reconnects: how often a connection to fetch was made after the first.
    """

    def __init__(self, run_dir: str | Path, serve_index: int) -> None:
        self._run_dir = str(run_dir)
        self._hello = Request(Op.HELLO, inode=os.getpid(), offset=serve_index).pack()
        self._tokens = itertools.count(1)
        self._outstanding: dict[int, _Outstanding] = {}
        self._leases: dict[int, _Lease] = {}
        self._unsent: deque[bytes] = deque()
        self._send_lock = threading.Lock()  # _socket, _generation, _unsent and the order of sending
        self._has_unsent = threading.Condition(self._send_lock)
        self._socket: socket.socket | None = None
        self._generation = 0
        self._closed = threading.Event()
        self._invalidate: Callable[[Answer], None] | None = None
        self._threads: list[threading.Thread] = []

    @property
    def reconnects(self) -> int:
        return max(0, self._generation - 1)

    def start(self) -> None:
        for name, target in (("answers", self._receive), ("unsent", self._send_unsent)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End the connection and the threads. Outstanding requests are forgotten, their callbacks never run."""
        self._closed.set()
        self._outstanding.clear()
        with self._send_lock:
            self._drop_connection()
            self._has_unsent.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    # -- MissClient

    def submit(self, request: Request, on_answer: Callable[[Answer], None]) -> int:
        token = next(self._tokens)
        message = Request(request.op, token, request.inode, request.offset, request.size, request.name).pack()
        with self._send_lock:  # entered and sent in one step: a new connection sends all that are entered
            self._outstanding[token] = _Outstanding(request, message, on_answer)
            self._send(message)
        return token

    def done(self, token: int) -> None:
        lease = self._leases.pop(token, None)
        if lease is not None and lease.generation == self._generation:  # else fetch dropped it with the connection
            with self._send_lock:
                self._send(Request(Op.DONE, token).pack())

    def settled(self, token: int) -> None:
        with self._send_lock:
            self._send(Request(Op.SETTLED, token).pack())

    def cancel(self, token: int) -> None:
        with self._send_lock:
            if self._outstanding.pop(token, None) is not None:
                self._send(Request(Op.CANCEL, token).pack())

    def tell(self, request: Request) -> None:
        with self._send_lock:
            if len(self._unsent) < _MAX_UNSENT_HINTS or request.op is Op.DAMAGED:
                self._send(request.pack())

    def on_invalidate(self, callback: Callable[[Answer], None]) -> None:
        self._invalidate = callback

    # -- LeasingMissClient

    def lost_request(self, token: int) -> Request | None:
        lease = self._leases.get(token)
        if lease is None:
            return None
        with self._send_lock:
            is_current = lease.generation == self._generation and self._socket is not None
            # A dead process's sockets are closed before its parent can know of the death, so before a successor writes anything.
            return None if is_current and not _is_hung_up(self._socket) else lease.request

    # -- sending: under _send_lock

    def _send(self, message: bytes) -> None:
        """Send now if nothing waits before it, else later. While there is no connection, one-way messages are lost and requests
        wait in `_outstanding`."""
        if self._socket is None:
            return
        if not self._unsent and self._try_send(message):
            return
        if self._socket is not None:
            self._unsent.append(message)
            self._has_unsent.notify()

    def _try_send(self, message: bytes) -> bool:
        """False: the socket takes nothing now, or the connection has ended (the receiving thread will see that by itself)."""
        assert self._socket is not None
        try:
            self._socket.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def _send_unsent(self) -> None:
        """Body of the thread that sends what did not fit: waits until the socket takes messages again."""
        poller_fd = -1
        while not self._closed.is_set():
            with self._send_lock:
                while self._unsent and self._socket is not None and self._try_send(self._unsent[0]):
                    self._unsent.popleft()
                if not self._unsent or self._socket is None:
                    if not self._closed.is_set():  # looked at under the lock, or close's notify could come before the wait
                        self._has_unsent.wait()
                    continue
                poller_fd = os.dup(self._socket.fileno())  # the connection may end while this thread polls
            try:
                poller = select.poll()
                poller.register(poller_fd, select.POLLOUT)
                events = poller.poll(_POLL_MILLISECONDS)
            finally:
                os.close(poller_fd)
            if any(event & (select.POLLHUP | select.POLLERR) for _, event in events):
                self._closed.wait(_FIRST_PAUSE_SECONDS)  # until the receiving thread has seen it too

    # -- receiving

    def _receive(self) -> None:
        """Body of the thread that receives: answers, and the end of connections."""
        connection: socket.socket | None = None
        while not self._closed.is_set():
            if connection is None:
                connection = self._connect()
                continue
            try:
                data = connection.recv(MAX_MESSAGE_BYTES)
            except OSError as error:
                if not self._closed.is_set():
                    log.info("connection to fetch lost: %s", error)
                data = b""
            if data:
                self._dispatch(data)
                continue
            connection = None
            with self._send_lock:
                self._drop_connection()

    def _connect(self) -> socket.socket | None:
        """Connect and send everything outstanding again. Returns None once closed."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._closed.is_set():
            try:
                connection = connect_in(self._run_dir, run_files.MISS_SOCKET, socket.SOCK_SEQPACKET, 0.0)
            except OSError as error:  # ENOENT, ECONNREFUSED, or EAGAIN: as many wait already as the listening socket lets
                log.debug("fetch cannot be reached yet: %s", error)
                self._closed.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            connection.setblocking(True)
            with self._send_lock:
                if self._closed.is_set():
                    connection.close()
                    return None
                self._socket = connection
                self._generation += 1
                again = sorted(self._outstanding.items())
                self._unsent.clear()
                self._unsent.append(self._hello)
                self._unsent.extend(outstanding.message for _, outstanding in again)
                while self._unsent and self._try_send(self._unsent[0]):
                    self._unsent.popleft()
                self._has_unsent.notify()
            if self._generation > 1:
                log.info("connected to fetch again; %d requests were outstanding", len(again))
            return connection
        return None

    def _drop_connection(self) -> None:
        """Under _send_lock."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes a receiver; close alone does not
            self._socket.close()
            self._socket = None
        self._unsent.clear()

    def _dispatch(self, data: bytes) -> None:
        try:
            answer = Answer.unpack(data)
        except Exception:
            log.exception("fetch sent %d bytes that are no answer; please report this", len(data))
            return
        if answer.op is not Op.ANSWER:
            if self._invalidate is not None:
                _call(self._invalidate, answer)
            return
        outstanding = self._outstanding.pop(answer.token, None)
        if outstanding is None:  # cancelled meanwhile: nobody else will end its lease
            with self._send_lock:
                self._send(Request(Op.DONE, answer.token).pack())
            return
        if outstanding.request.op is Op.READ:
            self._leases[answer.token] = _Lease(self._generation, outstanding.request)
        _call(outstanding.on_answer, answer)


def _call(callback: Callable[[Answer], None], answer: Answer) -> None:
    try:
        callback(answer)
    except Exception:
        log.exception("an answer of fetch was not taken (%s of inode %d); please report this", answer.op.name, answer.inode)


def _is_hung_up(connection: socket.socket | None) -> bool:
    if connection is None:
        return True
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    return any(event & (select.POLLHUP | select.POLLRDHUP | select.POLLERR) for _, event in poller.poll(0))
