"""INIT: what is agreed with the kernel for one connection, kept in the header page of the shared memory.

State: the H_INIT_* fields, written by whichever serve process answers INIT; H_INIT_DONE last. A death in between is harmless, as
a successor replays INIT out of the slot, comes to the same result, and finds that the kernel has its answer already.
"""

from __future__ import annotations

import errno
import logging
import mmap
from collections.abc import Callable

from fusecache.contract import shared_memory as shared
from fusecache.contract.shared_memory import U64
from fusecache.fuse.filesystem_protocol import Buffer
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.protocol import (
    IN_HEADER_BYTES,
    INIT_IN,
    INIT_IN_FLAGS2,
    INIT_OUT,
    MAJOR,
    MIN_READ_BUFFER,
    MINOR,
    OLDEST_MINOR,
    PAGE_BYTES,
    InitFlag,
)
from fusecache.fuse.native.settings import EngineSettings

_log = logging.getLogger(__name__)

# EXPLICIT_INVAL_DATA, not AUTO_INVAL_DATA: an inode is one version of an object, so its pages never become wrong, and a size that
# is learnt exactly must not cost the pages read so far. HANDLE_KILLPRIV: nothing is written, so the kernel need not ask for
# security.capability. READDIRPLUS_AUTO: `ls` gets plain entries, `ls -l` and `find` get attributes with them.
# On a mount that may be written, nothing more: without WRITEBACK_CACHE each write(2) is answered by us, without ATOMIC_O_TRUNC a
# truncation comes by itself, under the inode's lock. NO_OPEN_SUPPORT means nothing then, as OPEN is always answered.
# Not asked for: ASYNC_DIO, because a direct read then waits for its parts uninterruptibly, and a killed reader stays in state D
# until the store answers; SPLICE_* and ATOMIC_O_TRUNC, which have no use here.
_WANTED = (
    InitFlag.ASYNC_READ
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.HANDLE_KILLPRIV
    | InitFlag.ABORT_ERROR
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.NO_OPEN_SUPPORT
    | InitFlag.EXPLICIT_INVAL_DATA
    | InitFlag.INIT_EXT
)


class Session:
    """The negotiated connection.

    `on_initialized` is called, from the thread that answered INIT, once it is answered."""

    def __init__(self, memory: mmap.mmap, layout: shared.Layout, device: Device, settings: EngineSettings) -> None:
        if layout.landing_bytes < MIN_READ_BUFFER:
            raise ValueError(f"landing_bytes is {layout.landing_bytes}, the kernel needs {MIN_READ_BUFFER}")
        self._memory = memory
        self._device = device
        self._settings = settings
        # On a read-only mount nothing as large as max_write ever comes. The kernel wants room for it all the same, plus headers.
        self._max_write = (layout.landing_bytes - PAGE_BYTES) & -PAGE_BYTES
        self.on_initialized: Callable[[], None] = lambda: None

    @property
    def is_initialized(self) -> bool:
        return self._get(shared.H_INIT_DONE) != 0

    @property
    def flags(self) -> InitFlag:
        """What was agreed on; no flag before INIT."""
        return InitFlag(self._get(shared.H_INIT_FLAGS))

    @property
    def opens_files(self) -> bool:
        """False: OPEN is answered ENOSYS, for good. The mode is written before the first serve process starts."""
        if self._settings.writes:
            return True
        return self._get(shared.H_ACCESS) == shared.ACCESS_PASSTHROUGH

    def initialize(self, request: Buffer, length: int, unique: int, inode: int) -> None:
        """Answer INIT (an operation, see operations.py; it answers by itself, because H_INIT_DONE comes after the answer)."""
        major, minor, _, offered = INIT_IN.unpack_from(request, IN_HEADER_BYTES)
        if major > MAJOR:  # the kernel will ask again in our version
            self._device.reply(unique, (INIT_OUT.pack(MAJOR, MINOR, *(0,) * 11),))
            return
        if major < MAJOR or minor < OLDEST_MINOR:
            _log.error(
                "the kernel speaks FUSE %d.%d, but at least %d.%d (Linux 4.20) is needed", major, minor, MAJOR, OLDEST_MINOR
            )
            self._device.fail(unique, errno.EPROTO)
            return
        if offered & InitFlag.INIT_EXT:
            offered |= INIT_IN_FLAGS2.unpack_from(request, IN_HEADER_BYTES + INIT_IN.size)[0] << 32
        flags = offered & self._wanted()
        settings = self._settings
        readahead = settings.max_readahead_bytes
        for field, value in (
            (shared.H_INIT_MINOR, min(minor, MINOR)),
            (shared.H_INIT_FLAGS, flags),
            (shared.H_MAX_WRITE, self._max_write),
            (shared.H_MAX_READAHEAD, readahead),
            (shared.H_MAX_PAGES, settings.max_pages),
        ):
            self._set(field, value)
        answer = INIT_OUT.pack(
            MAJOR,
            MINOR,
            readahead,
            flags & 0xFFFFFFFF,
            settings.max_background,
            settings.max_background * 3 // 4,
            self._max_write,
            1,  # time_gran: nanoseconds
            settings.max_pages,
            0,
            flags >> 32,
            1 if flags & InitFlag.PASSTHROUGH else 0,  # max_stack_depth: tiers are ordinary file systems, not stacked ones
            0,
        )
        self._device.reply(unique, (answer,))
        self._set(shared.H_INIT_DONE, 1)
        _log.debug("FUSE %d.%d, %r", MAJOR, min(minor, MINOR), InitFlag(flags))
        self.on_initialized()

    def _wanted(self) -> int:
        wanted = _WANTED
        if self._settings.passthrough:
            wanted |= InitFlag.PASSTHROUGH
        if self._settings.writes:
            wanted |= InitFlag.BIG_WRITES
        if self._settings.ask_resend:
            wanted |= InitFlag.HAS_RESEND
        return int(wanted)

    def _get(self, field: int) -> int:
        value: int = U64.unpack_from(self._memory, field)[0]
        return value

    def _set(self, field: int, value: int) -> None:
        U64.pack_into(self._memory, field, value)
