"""The FUSE wire protocol, version 7.45: opcodes, flags and message structs. No state, no input or output.

Names follow the kernel's include/uapi/linux/fuse.h without the prefix; every struct there is padded to 8 bytes, so the formats
below need no padding beyond what they spell. All messages are in host byte order, which is little-endian on the platforms we
support.
"""

from __future__ import annotations

import enum
import struct

MAJOR = 7
MINOR = 45
OLDEST_MINOR = 28  # Linux 4.20: MAX_PAGES, CACHE_DIR
MIN_READ_BUFFER = 8192  # the kernel refuses to fill a smaller one
PAGE_BYTES = 4096

UNIQUE_RESEND = 1 << 63  # set in `unique` of a request that FUSE_NOTIFY_RESEND brought again; the reply carries it too


class Opcode(enum.IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


OPCODE_LIMIT = 64  # dispatch tables have this many rows; the kernel's numbers are below


class InitFlag(enum.IntFlag):
    """Bits of `flags | flags2 << 32` in INIT."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5  # WRITEs of up to max_write; without it of a page
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28
    INIT_EXT = 1 << 30
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39


class OpenFlag(enum.IntFlag):
    """`open_flags` in the answers to OPEN and OPENDIR."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    NOFLUSH = 1 << 5
    PASSTHROUGH = 1 << 7


class SetAttribute(enum.IntFlag):
    """`valid` of SETATTR."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    CTIME = 1 << 10


class Notify(enum.IntEnum):
    """Stand in the `error` field of a message that answers no request (unique 0)."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    RESEND = 7


IN_HEADER = struct.Struct("<IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
IN_HEADER_START = struct.Struct("<IIQQ")  # what every request needs of it
IN_HEADER_BYTES = IN_HEADER.size
OUT_HEADER = struct.Struct("<IiQ")  # len, -errno or notify code, unique
OUT_HEADER_BYTES = OUT_HEADER.size

INIT_IN = struct.Struct("<IIII")  # major, minor, max_readahead, flags; with INIT_EXT flags2 follows
INIT_IN_FLAGS2 = struct.Struct("<I")
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages, map_alignment,
# flags2, max_stack_depth, request_timeout, unused
INIT_OUT = struct.Struct("<IIIIHHIIHHIIH22x")

# attr: ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags
ATTR_OUT = struct.Struct("<QII" + "6Q10I")  # attr_valid, attr_valid_nsec, dummy, attr
ENTRY_OUT = struct.Struct(
    "<QQQQII" + "6Q10I"
)  # nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec, attr

READ_IN = struct.Struct("<QQIIQII")  # fh, offset, size, read_flags, lock_owner, flags, padding
READ_IN_START = struct.Struct("<QQI")  # the first three
OPEN_IN = struct.Struct("<II")  # flags, open_flags
OPEN_OUT = struct.Struct("<QIi")  # fh, open_flags, backing_id
WRITE_IN = struct.Struct("<8xQI20x")  # offset, size; fh before, flags and lock owner after. The bytes follow
WRITE_OUT = struct.Struct("<II")  # size, padding
# valid, padding, fh, size, lock_owner, atime, mtime, ctime, their nanoseconds, mode, unused, uid, gid, unused
SETATTR_IN = struct.Struct("<IIQQQQQQIIIIIIII")
CREATE_IN = struct.Struct("<IIII")  # flags, mode, umask, open_flags; name, NUL follow
MKNOD_IN = struct.Struct("<IIII")  # mode, rdev, umask, padding; name, NUL follow
MKDIR_IN = struct.Struct("<II")  # mode, umask; name, NUL follow
RENAME_IN = struct.Struct("<Q")  # newdir; both names, each with its NUL, follow
RENAME2_IN = struct.Struct("<QII")  # newdir, flags, padding
SETXATTR_IN = struct.Struct("<II")  # size, flags; name, NUL, value follow
FILE_IN = struct.Struct("<Q")  # fh, at the beginning of RELEASE, FLUSH, FSYNC and FALLOCATE
FALLOCATE_IN = struct.Struct("<QQQII")  # fh, offset, length, mode, padding
GETXATTR_IN = struct.Struct("<II")  # size, padding; GETXATTR: name, NUL follow
GETXATTR_OUT = struct.Struct("<II")  # size, padding
STATFS_OUT = struct.Struct("<QQQQQIII28x")  # blocks, bfree, bavail, files, ffree, bsize, namelen, frsize
INTERRUPT_IN = struct.Struct("<Q")  # unique of the request that nobody waits for any more
DIRENT = struct.Struct("<QQII")  # ino, off, namelen, type; name follows, padded to 8 bytes

NOTIFY_INVAL_INODE_OUT = struct.Struct("<Qqq")  # ino, off (negative: attributes only), len
NOTIFY_INVAL_ENTRY_OUT = struct.Struct("<QII")  # parent, namelen, flags; name, NUL follow

IOC_CLONE = 0x8004E500  # _IOR(229, 0, u32): the argument is the number of an attached /dev/fuse descriptor
IOC_BACKING_OPEN = 0x4010E501  # _IOW(229, 1, struct fuse_backing_map); returns the backing id
IOC_BACKING_CLOSE = 0x4004E502  # _IOW(229, 2, u32): the argument points to a backing id
BACKING_MAP = struct.Struct("<iIQ")  # fd, flags, padding
