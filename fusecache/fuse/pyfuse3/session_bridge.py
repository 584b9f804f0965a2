"""How libfuse gets a FUSE connection that was mounted by another process, and may have been served by a predecessor already.

libfuse takes a mounted descriptor as mount point `/dev/fd/N`, but insists on an INIT request as the first message. So N is at
first one end of a socket pair on which this module plays the kernel: it sends INIT (the kernel's own, or a copy of the one that
the predecessor saw), takes libfuse's answer (and passes it on to the kernel, the first time), and then puts the connection
itself in N's place. What a dead predecessor took and did not answer comes again through FUSE_NOTIFY_RESEND.

State: INIT in the landing slot of this serve process (contract/shared_memory.py), the H_INIT_* fields. One thread of its own.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable

from fusecache.contract import shared_memory as shared
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import U64, Layout
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.protocol import IN_HEADER_BYTES, OUT_HEADER_BYTES, Notify, Opcode
from fusecache.fuse.native.request_slots import LandingSlot

log = logging.getLogger(__name__)

_MAX_INIT_BYTES = 4096
_WAKE = b"\0" * IN_HEADER_BYTES  # never read: it only makes the event loop look at the descriptor
# In libfuse's answer to INIT: max_background and congestion_threshold (u16 each) behind major, minor, max_readahead and flags.
# libfuse leaves the kernel's default of 12, with which 12 stalled read-aheads stop the hits on all files.
_BACKGROUND = struct.Struct("<HH")
_BACKGROUND_OFFSET = OUT_HEADER_BYTES + 16


class SessionBridge:
    """Attributes: session_fd: what libfuse is to use, as `/dev/fd/N`."""

    def __init__(self, fuse_fd: int, memory: mmap.mmap, layout: Layout, serve_index: int, max_background: int = 2048) -> None:
        self._fuse_fd = fuse_fd
        self._memory = memory
        self._slot = LandingSlot(memoryview(memory), layout.slot(serve_index, 0), layout.landing_bytes)
        self._max_background = max_background
        self._is_resumed = bool(self._header(shared.H_INIT_DONE))
        self._kernel_end, libfuse_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The event loop's registration belongs to the open file, not to the number: while this copy is open it survives dup2.
        self._libfuse_end = libfuse_end
        self.session_fd = os.dup(libfuse_end.fileno())
        self._on_ready: Callable[[], None] = lambda: None

    def start(self, on_ready: Callable[[], None]) -> None:
        """Give INIT to libfuse, before its loop starts. `on_ready` is called from the bridge's thread. Raises:
        CacheError(UNSUPPORTED)."""
        self._on_ready = on_ready
        init = self._take_init()
        self._kernel_end.send(init)
        threading.Thread(target=self._hand_over, name="session-bridge", daemon=True).start()

    def _take_init(self) -> bytes:
        """Return the connection's INIT request; it stays in the landing slot for successors."""
        if not self._is_resumed and (not self._slot.words[0] or select.select([self._fuse_fd], [], [], 0)[0]):
            os.readv(self._fuse_fd, [self._slot.buffer])
        length, opcode = self._slot.words[0], self._slot.words[1]
        if opcode != Opcode.INIT or not IN_HEADER_BYTES < length <= _MAX_INIT_BYTES:
            raise CacheError(
                ErrorKind.UNSUPPORTED, "this mount was begun with another engine; unmount it and mount it again to change engines"
            )
        return bytes(self._slot.buffer[:length])

    def _hand_over(self) -> None:
        """Body of the bridge's thread."""
        answer = bytearray(self._kernel_end.recv(_MAX_INIT_BYTES))
        if not answer:
            return
        if not self._is_resumed:
            _BACKGROUND.pack_into(answer, _BACKGROUND_OFFSET, self._max_background, self._max_background * 3 // 4)
            os.write(self._fuse_fd, answer)
            U64.pack_into(self._memory, shared.H_INIT_DONE, 1)
        os.dup2(self._fuse_fd, self.session_fd, inheritable=False)
        if self._is_resumed:
            self._ask_again()
        self._on_ready()
        # libfuse may wait for the socket still. It must look at the connection only when there is something, as its read blocks.
        poller = select.poll()
        poller.register(self._fuse_fd, select.POLLIN)
        poller.poll()
        self._kernel_end.send(_WAKE)

    def _ask_again(self) -> None:
        try:
            Device(self._fuse_fd).notify(Notify.RESEND)
        except OSError as error:
            log.error(
                "the kernel does not send again what the predecessor left unanswered (%s; it takes Linux 6.9): readers of that"
                " moment hang until the mount is taken away; the native engine does not need it",
                error,
            )

    def _header(self, offset: int) -> int:
        return int(U64.unpack_from(self._memory, offset)[0])
