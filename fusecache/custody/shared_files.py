"""The two memfds of a FUSE connection: state that outlives daemons (contract/shared_memory.py), and the bounce buffer.

Owns their creation. The supervisor keeps both descriptors as long as it lives and passes them to every daemon.
"""

from __future__ import annotations

import os

from fusecache.contract.shared_memory import (
    BOUNCE_BYTES,
    H_INIT_DONE,
    H_LANDING_BYTES,
    H_LAYOUT_VERSION,
    H_MAGIC,
    H_READERS,
    H_SERVE_COUNT,
    H_TABLE_ENTRIES,
    LAYOUT_VERSION,
    MAGIC,
    U64,
    Layout,
)


def make_shared_memory(layout: Layout) -> int:
    """Return a memfd with the header written.

    All its pages exist: a FUSE read into a page that cannot be had would lose the request.
    """
    fd = os.memfd_create("fusecache-state", os.MFD_CLOEXEC)
    os.posix_fallocate(fd, 0, layout.total_bytes)
    for offset, value in (
        (H_LAYOUT_VERSION, LAYOUT_VERSION),
        (H_SERVE_COUNT, layout.serve_count),
        (H_READERS, layout.readers),
        (H_LANDING_BYTES, layout.landing_bytes),
        (H_TABLE_ENTRIES, layout.table_entries),
    ):
        os.pwrite(fd, U64.pack(value), offset)
    os.pwrite(fd, MAGIC, H_MAGIC)
    return fd


def forget_session(fd: int) -> None:
    """Note that the next serve process meets a new FUSE connection, whose INIT it has to answer."""
    os.pwrite(fd, U64.pack(0), H_INIT_DONE)


def make_bounce_buffer() -> int:
    """Return the memfd of the bounce buffer, sparse."""
    fd = os.memfd_create("fusecache-bounce", os.MFD_CLOEXEC)
    os.ftruncate(fd, BOUNCE_BYTES)
    return fd
