from __future__ import annotations

import ctypes
import struct

import pytest

from fusecache.fuse.native import protocol

# Sizes of the structs in include/uapi/linux/fuse.h (7.38 and later), each added up by hand from its fields.
SIZES = {
    "IN_HEADER": 40,
    "OUT_HEADER": 16,
    "INIT_OUT": 64,
    "ATTR_OUT": 104,
    "ENTRY_OUT": 128,
    "READ_IN": 40,
    "OPEN_IN": 8,
    "OPEN_OUT": 16,
    "GETXATTR_IN": 8,
    "GETXATTR_OUT": 8,
    "STATFS_OUT": 80,
    "INTERRUPT_IN": 8,
    "DIRENT": 24,
    "NOTIFY_INVAL_INODE_OUT": 24,
    "NOTIFY_INVAL_ENTRY_OUT": 16,
    "BACKING_MAP": 16,
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_struct_sizes(name: str, size: int) -> None:
    layout = getattr(protocol, name)
    assert isinstance(layout, struct.Struct)
    assert layout.size == size


def _ioctl_number(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 229 << 8 | number


def test_ioctl_numbers() -> None:
    write, read = 1, 2
    assert _ioctl_number(read, 0, ctypes.sizeof(ctypes.c_uint32)) == protocol.IOC_CLONE
    assert _ioctl_number(write, 1, protocol.BACKING_MAP.size) == protocol.IOC_BACKING_OPEN
    assert _ioctl_number(write, 2, ctypes.sizeof(ctypes.c_uint32)) == protocol.IOC_BACKING_CLOSE


def test_opcodes_fit_the_dispatch_table() -> None:
    assert max(protocol.Opcode) < protocol.OPCODE_LIMIT


def test_the_start_of_a_read_is_where_the_whole_says() -> None:
    whole = protocol.READ_IN.pack(1, 2**63 - 1, 131072, 4, 5, 6, 7)
    assert protocol.READ_IN_START.unpack_from(whole) == (1, 2**63 - 1, 131072)
