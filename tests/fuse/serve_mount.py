"""A FUSE mount with real serve processes over a built cache; the test plays supervisor and fetch. It never opens anything on
the mount itself."""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusecache.contract import run_files
from fusecache.contract import shared_memory as shared
from fusecache.contract.messages import MAX_MESSAGE_BYTES, STATUS_BOUNCE, STATUS_OK, Answer, Op, Request
from fusecache.contract.mount_spec import Engine
from fusecache.contract.shared_memory import U64, Layout
from fusecache.custody.favours import Favours
from tests.fuse.native_mount import NativeMount
from tests.support.cache_builder import BuiltFile, CacheBuilder

READY_SECONDS = 15.0  # an import of everything on two busy cores takes a second


class FillingFetch:
    """Answers misses: puts blocks of its files into the cache, or (`bounce`) into the bounce buffer; lists directories as they
    are.

    Attributes:
        asked: how often each (op, inode, offset) came.
        is_frozen: while set, nothing is answered.
    """

    def __init__(self, cache: CacheBuilder, bounce_fd: int) -> None:
        self.cache = cache
        self.files: dict[int, BuiltFile] = {}
        self.bounced: set[int] = set()
        self.refused: dict[int, int] = {}
        self.asked: list[Request] = []
        self.frozen = threading.Event()
        self._bounce_fd = bounce_fd
        self._ended = threading.Event()
        self._connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(Path(cache.spec.run_dir) / run_files.MISS_SOCKET))
        self._listener.listen(8)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def is_connected(self) -> bool:
        """Whether a serve process is here, and its thread runs."""
        return any(thread.is_alive() for thread in self._threads[1:])

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(MAX_MESSAGE_BYTES):
                request = Request.unpack(data)
                self.asked.append(request)
                if request.token and request.op not in (Op.DONE, Op.CANCEL):
                    while self.frozen.is_set() and not self._ended.is_set():
                        time.sleep(0.005)
                    connection.send(self._answer(request).pack())

    def _answer(self, request: Request) -> Answer:
        if request.inode in self.refused:
            return Answer(Op.ANSWER, request.token, self.refused[request.inode])
        if request.op is Op.READ:
            file = self.files[request.inode]
            if request.inode in self.bounced:
                data = file.data[request.offset : request.offset + request.size]
                os.pwrite(self._bounce_fd, data, 8192)
                return Answer(Op.ANSWER, request.token, STATUS_BOUNCE, request.inode, 8192, len(data))
            block_size = self.cache.spec.block_size_bytes
            self.cache.cache(
                file, blocks=range(request.offset // block_size, (request.offset + request.size - 1) // block_size + 1)
            )
        elif request.op in (Op.LIST, Op.LOOKUP):
            self.cache.change_directory(
                request.inode, listed_at=time.time(), flags=self.cache.directory_row(request.inode).flags | 1
            )
        return Answer(Op.ANSWER, request.token, STATUS_OK)

    def invalidate(self, answer: Answer) -> None:
        self._connections[-1].send(answer.pack())

    def close(self) -> None:
        self._ended.set()
        _close(self._listener)
        self._threads[0].join()  # then no connection comes that nobody would close
        for connection in self._connections:
            _close(connection)
        for thread in self._threads[1:]:
            thread.join()


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class ServeMount(NativeMount):
    """Mounted; serve processes are started by `start`, as the supervisor would."""

    def __init__(
        self, cache: CacheBuilder, serve_count: int = 1, access: int = shared.ACCESS_OPENLESS, answer_favours: bool = False
    ) -> None:
        layout = Layout(serve_count, readers=2, landing_bytes=132 << 10, table_entries=256)
        super().__init__(Path(cache.spec.mountpoint), layout, access=access)
        U64.pack_into(self.memory, shared.H_LAYOUT_VERSION, shared.LAYOUT_VERSION)
        layout.write(self.memory)
        self.memory[: len(shared.MAGIC)] = shared.MAGIC
        self.cache = cache
        self.bounce_fd = os.memfd_create("bounce")
        os.ftruncate(self.bounce_fd, 1 << 20)
        self.fetch = FillingFetch(cache, self.bounce_fd)
        self.channels: dict[int, socket.socket] = {}
        self._channels_of_favours: list[socket.socket] = []
        self._favours: Favours | None = None
        self._answering: list[threading.Thread] = []
        if answer_favours:
            self._favours = Favours(self.fuse_fds[0], [tier.path for tier in cache.spec.tiers], allow_passthrough=True)
        self.extra_path = ""
        self.index_id = cache.index_id.hex()

    def spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start a spare."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(READY_SECONDS)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fusecache.serve", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": f"{self.extra_path}:{Path(__file__).parent.parent.parent}"},
                stderr=subprocess.DEVNULL,
            )
        return process, ours

    def start(self, serve_index: int = 0, wait: bool = True) -> None:
        self.start_spare(*self.spawn(), serve_index)
        if wait:
            self.wait_ready(serve_index)

    def start_spare(self, process: subprocess.Popen[bytes], channel: socket.socket, serve_index: int = 0) -> None:
        self.processes[serve_index], self.channels[serve_index] = process, channel
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channels_of_favours.append(ours)
        if self._favours is not None:
            self._answering.append(threading.Thread(target=self._answer_favours, args=(self._favours, ours)))
            self._answering[-1].start()
        message = {
            "do": "start",
            "spec": str(self.cache.write_spec()),
            "generation": 1,
            "serve_index": serve_index,
            "index_id": self.index_id,
        }
        with theirs:
            fds = array.array("i", (self.memory_fd, self.bounce_fd, theirs.fileno(), self.fuse_fds[serve_index]))
            channel.sendmsg([json.dumps(message).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    def _answer_favours(self, favours: Favours, channel: socket.socket) -> None:
        channel.setblocking(False)
        while favours.answer_all(channel):
            select.select([channel], [], [], 0.5)

    def wait_ready(self, serve_index: int = 0) -> None:
        assert self.hear(serve_index) == {"did": "ready"}

    def hear(self, serve_index: int = 0) -> dict[str, Any]:
        """Return the next message but the first one, which says that the process has imported; {} when it has ended."""
        said: dict[str, Any] = {"did": "warm"}
        while said.get("did") == "warm":
            data = self.channels[serve_index].recv(65536)
            said = json.loads(data) if data else {}
        return said

    def kill(self, serve_index: int = 0) -> None:
        process = self.processes.pop(serve_index)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.channels.pop(serve_index).close()

    def close(self) -> None:
        super().close()
        self.fetch.close()
        for thread in self._answering:
            thread.join()
        for one in (*self.channels.values(), *self._channels_of_favours):
            one.close()
        os.close(self.bounce_fd)


@contextlib.contextmanager
def serve_mount(
    path: Path,
    engine: Engine,
    *,
    serve_count: int = 1,
    access: int = shared.ACCESS_OPENLESS,
    answer_favours: bool = False,
    **spec: Any,
) -> Iterator[ServeMount]:
    """A cache, its mount and `serve_count` serve processes that are not started yet; everything is taken away at the end."""
    cache = CacheBuilder(path, block_size=1 << 20, granule_size=128 << 10, engine=engine, **spec)
    try:
        mount = ServeMount(cache, serve_count, access, answer_favours)
        try:
            yield mount
        finally:
            mount.close()
    finally:
        cache.close_index()
