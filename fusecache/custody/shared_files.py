"""The two memfds of a FUSE connection: state that outlives daemons (contract/shared_memory.py), and the bounce buffer.

Owns their creation. The supervisor keeps both descriptors as long as it lives and passes them to every daemon.
"""

from __future__ import annotations

import os

from fusecache.contract.shared_memory import (
    BOUNCE_BYTES,
    H_INIT_DONE,
    H_LAYOUT_VERSION,
    H_MAGIC,
    LAYOUT_VERSION,
    MAGIC,
    PAGE,
    U64,
    Layout,
)


def make_shared_memory(layout: Layout) -> int:
    """Return a memfd with the header written.

    All its pages exist: a FUSE read into a page that cannot be had would lose the request.
    """
    fd = os.memfd_create("fusecache-state", os.MFD_CLOEXEC)
    os.posix_fallocate(fd, 0, layout.total_bytes)
    header = bytearray(PAGE)
    U64.pack_into(header, H_LAYOUT_VERSION, LAYOUT_VERSION)
    layout.write(header)
    header[H_MAGIC : H_MAGIC + len(MAGIC)] = MAGIC
    os.pwrite(fd, header, 0)
    return fd


def forget_session(fd: int) -> None:
    """Note that the next serve process meets a new FUSE connection, whose INIT it has to answer."""
    os.pwrite(fd, U64.pack(0), H_INIT_DONE)


def make_bounce_buffer() -> int:
    """Return the memfd of the bounce buffer, sparse."""
    fd = os.memfd_create("fusecache-bounce", os.MFD_CLOEXEC)
    os.ftruncate(fd, BOUNCE_BYTES)
    return fd
