"""What the requests of programs that write ask for, on a mount that may be written. No state, any thread.

Bytes go to the filesystem at once. Everything else is a change that fetch makes: the operation raises Miss(CHANGE) or
Miss(SYNC), and when it is answered, `complete` says the rest. A request that comes again after a death raises the same miss
again, with the same unique.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from fusecache.contract.changes import MAX_VALUE_BYTES, NOT_SET, TIME_NOT_SET, Change, ChangeKind
from fusecache.contract.messages import Answer, Op
from fusecache.fuse.filesystem_protocol import Buffer, Miss, WritableFilesystem
from fusecache.fuse.native.operations import Refused
from fusecache.fuse.native.protocol import (
    CREATE_IN,
    FALLOCATE_IN,
    FILE_IN,
    IN_HEADER,
    IN_HEADER_BYTES,
    MKDIR_IN,
    MKNOD_IN,
    OPEN_IN,
    OPEN_OUT,
    RENAME2_IN,
    RENAME_IN,
    SETATTR_IN,
    SETXATTR_IN,
    UNIQUE_RESEND,
    WRITE_IN,
    WRITE_OUT,
    Opcode,
    OpenFlag,
    SetAttribute,
)
from fusecache.fuse.native.replies import pack_attributes, pack_entry
from fusecache.fuse.native.request_slots import RequestSlots

Operation = Callable[[Buffer, int, int, int], Sequence[Buffer] | None]
Completion = Callable[[Buffer, int, int, int, Miss, Answer], Sequence[Buffer] | None]

NO_HANDLE = 0
_EMPTY: Sequence[Buffer] = (b"",)
_READ_ONLY_OPEN = (OPEN_OUT.pack(NO_HANDLE, OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH, 0),)
_NS = 1_000_000_000
_USER = b"user."
_OUR_OWN = b"user.fusecache."


class WriteOperations:
    """`rows` replace those of operations.Operations; `completions` answer after a miss that was a change.

    What serve does by itself (bytes, sizes) is marked in `slots` before it is answered: it must not be done again after an
    answer, when the next request may have changed the same bytes."""

    def __init__(
        self, filesystem: WritableFilesystem, others: Sequence[Operation], slots: RequestSlots, checks_opens: bool
    ) -> None:
        """`others`: the operations that are the same on every mount, by opcode. `checks_opens`: fetch is asked about each."""
        self._filesystem = filesystem
        self._slots = slots
        self._checks_opens = checks_opens
        self._others = others
        self.rows: dict[Opcode, Operation] = {
            Opcode.OPEN: self._open,
            Opcode.CREATE: self._create,
            Opcode.MKNOD: self._mknod,
            Opcode.WRITE: self._write,
            Opcode.FLUSH: self._sync,
            Opcode.FSYNC: self._sync,
            Opcode.FSYNCDIR: lambda request, length, unique, inode: _EMPTY,
            Opcode.RELEASE: self._release,
            Opcode.SETATTR: self._setattr,
            Opcode.FALLOCATE: self._fallocate,
            Opcode.TMPFILE: self._leave_to_kernel,
            Opcode.COPY_FILE_RANGE: self._leave_to_kernel,
            Opcode.COPY_FILE_RANGE_64: self._leave_to_kernel,
            Opcode.UNLINK: self._remove(ChangeKind.UNLINK),
            Opcode.RMDIR: self._remove(ChangeKind.RMDIR),
            Opcode.MKDIR: self._mkdir,
            Opcode.RENAME: self._rename,
            Opcode.RENAME2: self._rename2,
            Opcode.SYMLINK: self._symlink,
            Opcode.LINK: self._link,
            Opcode.SETXATTR: self._setxattr,
            Opcode.REMOVEXATTR: self._removexattr,
        }
        self.completions: dict[int, Completion] = {
            Opcode.OPEN: self._opened,
            Opcode.CREATE: self._created,
            Opcode.MKNOD: self._made,
            Opcode.MKDIR: self._made,
            Opcode.SYMLINK: self._made,
            Opcode.SETATTR: self._set,
            Opcode.GETXATTR: self._again(Opcode.GETXATTR),
            Opcode.LISTXATTR: self._again(Opcode.LISTXATTR),
        }

    def complete(
        self, request: Buffer, length: int, opcode: int, unique: int, inode: int, miss: Miss, answer: Answer
    ) -> Sequence[Buffer] | None:
        """Return the answer to a request whose change was made. Raises: Miss for the next step of it."""
        completion = self.completions.get(opcode)
        return _EMPTY if completion is None else completion(request, length, unique, inode, miss, answer)

    def _again(self, opcode: Opcode) -> Completion:
        """The change was to know more: look again."""

        def again(request: Buffer, length: int, unique: int, inode: int, miss: Miss, answer: Answer) -> Sequence[Buffer] | None:
            return self._others[opcode](request, length, unique, inode)

        return again

    # -- files

    def _open(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        flags, _ = OPEN_IN.unpack_from(request, IN_HEADER_BYTES)
        if flags & os.O_ACCMODE == os.O_RDONLY and not self._checks_opens:
            self._filesystem.open(inode, flags & ~(os.O_TRUNC | os.O_APPEND | os.O_CREAT))
            return _READ_ONLY_OPEN
        raise _change(Change(ChangeKind.OPEN, inode, _own(unique), flags=flags))

    def _opened(self, request: Buffer, length: int, unique: int, inode: int, miss: Miss, answer: Answer) -> Sequence[Buffer]:
        flags, _ = OPEN_IN.unpack_from(request, IN_HEADER_BYTES)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            self._filesystem.open(inode, flags & ~(os.O_TRUNC | os.O_APPEND | os.O_CREAT))
            return _READ_ONLY_OPEN
        return (OPEN_OUT.pack(_own(unique), OpenFlag.KEEP_CACHE, 0),)

    def _create(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        flags, mode, _, _ = CREATE_IN.unpack_from(request, IN_HEADER_BYTES)
        name = bytes(request[IN_HEADER_BYTES + CREATE_IN.size : length - 1])
        raise _change(self._making(ChangeKind.CREATE, request, inode, unique, name, mode, flags))

    def _created(self, request: Buffer, length: int, unique: int, inode: int, miss: Miss, answer: Answer) -> Sequence[Buffer]:
        entry = pack_entry(self._filesystem.made(answer.inode))
        return (entry, OPEN_OUT.pack(_own(unique), OpenFlag.KEEP_CACHE, 0))

    def _mknod(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        mode, _, _, _ = MKNOD_IN.unpack_from(request, IN_HEADER_BYTES)
        if not stat.S_ISREG(mode):
            raise Refused(errno.EPERM)
        name = bytes(request[IN_HEADER_BYTES + MKNOD_IN.size : length - 1])
        raise _change(self._making(ChangeKind.CREATE, request, inode, unique, name, mode, os.O_EXCL | os.O_PATH))

    def _write(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        offset, size = WRITE_IN.unpack_from(request, IN_HEADER_BYTES)
        start = IN_HEADER_BYTES + WRITE_IN.size
        if start + size != length:
            raise Refused(errno.EIO)
        if not self._slots.is_applied(unique):
            self._filesystem.write(inode, offset, memoryview(request)[start : start + size])
            self._slots.mark_applied(unique)
        return (WRITE_OUT.pack(size, 0),)

    def _sync(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        if FILE_IN.unpack_from(request, IN_HEADER_BYTES)[0] == NO_HANDLE and not self._filesystem.is_written(inode):
            return _EMPTY
        raise Miss(Op.SYNC, inode)

    def _release(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        handle = FILE_IN.unpack_from(request, IN_HEADER_BYTES)[0]
        if handle == NO_HANDLE:
            return _EMPTY
        raise _change(Change(ChangeKind.RELEASE, inode, _own(unique), handle=handle))

    def _fallocate(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        _, offset, size, mode, _ = FALLOCATE_IN.unpack_from(request, IN_HEADER_BYTES)
        if mode:
            raise Refused(errno.EOPNOTSUPP)
        if not self._slots.is_applied(unique):
            self._filesystem.allocate(inode, offset, size)
            self._slots.mark_applied(unique)
        return _EMPTY

    def _leave_to_kernel(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        """ENOSYS: the kernel copies by reading and writing, and says EOPNOTSUPP to O_TMPFILE, after which programs make a file
        with a name. Any other error fails `cp` and `cat` from one file of the mount to another."""
        raise Refused(errno.ENOSYS)

    # -- attributes

    def _setattr(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        """The size first. Where no descriptor is named (truncate(2), O_TRUNC) the file may just be closed by the last one that
        had it open, and its stage be gone by the time that it is cut off here: fetch, which ends stages, does that."""
        fields = SETATTR_IN.unpack_from(request, IN_HEADER_BYTES)
        if fields[0] & SetAttribute.SIZE:
            if not fields[0] & SetAttribute.FH:
                raise _change(Change(ChangeKind.TRUNCATE, inode, _own(unique) | 1, value=b"%d" % fields[3]))
            if not self._slots.is_applied(unique):
                self._filesystem.truncate(inode, fields[3])
                self._slots.mark_applied(unique)
        return self._set_others(fields, unique, inode)

    def _set(self, request: Buffer, length: int, unique: int, inode: int, miss: Miss, answer: Answer) -> Sequence[Buffer]:
        fields = SETATTR_IN.unpack_from(request, IN_HEADER_BYTES)
        if miss.op is Op.SYNC:  # what was acknowledged is in the store now, and may be cut off
            return self._setattr(request, length, unique, inode)
        if Change.unpack(inode, miss.name).kind is ChangeKind.TRUNCATE:
            return self._set_others(fields, unique, inode)
        if fields[0] & SetAttribute.SIZE:
            self._slots.mark_applied(unique)  # where it waits now, no longer where it landed
        return self._attributes(inode)

    def _set_others(self, fields: tuple[int, ...], unique: int, inode: int) -> Sequence[Buffer]:
        valid = fields[0]
        mtime_ns = TIME_NOT_SET
        if valid & SetAttribute.MTIME_NOW:
            mtime_ns = time.time_ns()
        elif valid & SetAttribute.MTIME:
            seconds = fields[6] - (1 << 64) if fields[6] >> 63 else fields[6]
            mtime_ns = seconds * _NS + fields[9]
        change = Change(
            ChangeKind.SET_ATTRIBUTES,
            inode,
            _own(unique),
            mode=stat.S_IMODE(fields[11]) if valid & SetAttribute.MODE else NOT_SET,
            uid=fields[13] if valid & SetAttribute.UID else NOT_SET,
            gid=fields[14] if valid & SetAttribute.GID else NOT_SET,
            mtime_ns=mtime_ns,
        )
        if (change.mode, change.uid, change.gid, change.mtime_ns) != (NOT_SET, NOT_SET, NOT_SET, TIME_NOT_SET):
            raise _change(change)
        return self._attributes(inode)

    def _attributes(self, inode: int) -> Sequence[Buffer]:
        return (pack_attributes(*self._filesystem.getattr(inode)),)

    def _setxattr(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        size, flags = SETXATTR_IN.unpack_from(request, IN_HEADER_BYTES)
        rest = bytes(request[IN_HEADER_BYTES + SETXATTR_IN.size : length])
        name, _, value = rest.partition(b"\0")
        if not name.startswith(_USER):
            raise Refused(errno.EOPNOTSUPP)
        if name.startswith(_OUR_OWN):
            raise Refused(errno.EPERM)
        if size > MAX_VALUE_BYTES:
            raise Refused(errno.E2BIG)
        raise _change(Change(ChangeKind.SET_XATTR, inode, _own(unique), name[len(_USER) :], flags=flags, value=value[:size]))

    def _removexattr(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        name = bytes(request[IN_HEADER_BYTES : length - 1])
        if not name.startswith(_USER):
            raise Refused(errno.ENODATA)
        raise _change(Change(ChangeKind.REMOVE_XATTR, inode, _own(unique), name[len(_USER) :]))

    # -- names

    def _remove(self, kind: ChangeKind) -> Operation:
        def remove(request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
            raise _change(Change(kind, inode, _own(unique), bytes(request[IN_HEADER_BYTES : length - 1])))

        return remove

    def _mkdir(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        mode, _ = MKDIR_IN.unpack_from(request, IN_HEADER_BYTES)
        name = bytes(request[IN_HEADER_BYTES + MKDIR_IN.size : length - 1])
        raise _change(self._making(ChangeKind.MKDIR, request, inode, unique, name, mode))

    def _symlink(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        name, _, target = bytes(request[IN_HEADER_BYTES : length - 1]).partition(b"\0")
        raise _change(self._making(ChangeKind.SYMLINK, request, inode, unique, name, value=target))

    def _rename(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        (directory,) = RENAME_IN.unpack_from(request, IN_HEADER_BYTES)
        self._move(request, length, unique, inode, directory, RENAME_IN.size, 0)

    def _rename2(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        directory, flags, _ = RENAME2_IN.unpack_from(request, IN_HEADER_BYTES)
        self._move(request, length, unique, inode, directory, RENAME2_IN.size, flags)

    def _move(self, request: Buffer, length: int, unique: int, inode: int, directory: int, size: int, flags: int) -> NoReturn:
        name, _, other = bytes(request[IN_HEADER_BYTES + size : length - 1]).partition(b"\0")
        raise _change(Change(ChangeKind.RENAME, inode, _own(unique), name, directory, other, flags=flags))

    def _link(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        raise Refused(errno.EPERM)

    def _made(self, request: Buffer, length: int, unique: int, inode: int, miss: Miss, answer: Answer) -> Sequence[Buffer]:
        return (pack_entry(self._filesystem.made(answer.inode)),)

    def _making(
        self,
        kind: ChangeKind,
        request: Buffer,
        inode: int,
        unique: int,
        name: bytes,
        mode: int = 0,
        flags: int = 0,
        value: bytes = b"",
    ) -> Change:
        _, _, _, _, uid, gid, _, _, _ = IN_HEADER.unpack_from(request)
        return Change(kind, inode, _own(unique), name, mode=stat.S_IMODE(mode), uid=uid, gid=gid, flags=flags, value=value)


def _own(unique: int) -> int:
    return unique & ~UNIQUE_RESEND


def _change(change: Change) -> Miss:
    return Miss(Op.CHANGE, change.inode, name=change.pack())
