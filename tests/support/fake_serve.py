"""A serve with one file, over the bare FUSE protocol: enough for a mount to answer, die and go on.

Started by the supervisor as `python -m tests.support.fake_serve FD`. It shows `hello` (64 KiB of b"h", direct I/O) and `backed`,
whose OPEN asks the favour with the descriptor of FAKE_DIR/tier/container. A READ of `hello` obeys the misdeeds (see fake_fetch)
serve.exit: ends before it replies. serve.exit_at_start: ends after START. serve.ignore_stop: does not end when told.
serve.hang: sleeps for that many seconds. serve.late.INDEX: the same before it begins.
Requests land in slot 0 of the shared memory; what a predecessor left there is answered first.
"""

from __future__ import annotations

import array
import errno
import json
import mmap
import os
import socket
import stat
import struct
import sys
import threading
import time
from typing import Any

from fusecache.contract.shared_memory import H_INIT_DONE, H_SERVE_COUNT, SLOT_HEADER_BYTES, U64, Layout
from tests.support.fake_child import Control, end, fake_dir, misdeed, note_start

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, INIT = 1, 2, 3, 14, 15, 18, 26
OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET, FLUSH, STATFS = 27, 28, 29, 36, 38, 42, 25, 17
IN_HEADER = struct.Struct("<IIQQIIII")
OUT_HEADER = struct.Struct("<IiQ")
FILES = {b"hello": (2, 65536), b"backed": (3, 4096)}
SIZES = dict(FILES.values())
FOPEN_DIRECT_IO, FOPEN_PASSTHROUGH = 1, 1 << 7
INIT_EXT, PASSTHROUGH_FLAGS2 = 1 << 30, 1 << (37 - 32)


def attributes(inode: int) -> bytes:
    is_root = inode == 1
    mode = stat.S_IFDIR | 0o555 if is_root else stat.S_IFREG | 0o444
    return struct.pack("<6Q3I7I", inode, 0 if is_root else SIZES[inode], 1, *(0,) * 6, mode, 1, *(0,) * 3, 4096, 0)


class Server:
    def __init__(self, message: dict[str, object], fds: list[int]) -> None:
        self._memory = mmap.mmap(fds[0], 0)
        self._favour = socket.socket(fileno=fds[2])
        self._fuse_fd = fds[3]
        layout = Layout(U64.unpack_from(self._memory, H_SERVE_COUNT)[0])
        start = layout.slot(int(str(message["serve_index"])), 0) + SLOT_HEADER_BYTES
        self._slot = memoryview(self._memory)[start : start + layout.landing_bytes]

    @property
    def has_session(self) -> bool:
        return bool(U64.unpack_from(self._memory, H_INIT_DONE)[0])

    def serve(self, control: Control) -> None:
        """Answer until the mount is gone."""
        is_ready = self.has_session
        if is_ready:
            control.tell({"did": "ready"})
        while True:
            if not any(self._slot[:4]):
                try:
                    os.readv(self._fuse_fd, [self._slot])
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return
                    continue
            self._answer()
            self._slot[:4] = bytes(4)
            if not is_ready and self.has_session:
                is_ready = True
                control.tell({"did": "ready"})

    def _answer(self) -> None:
        length, opcode, unique, inode, _, _, _, _ = IN_HEADER.unpack_from(self._slot)
        body = bytes(self._slot[IN_HEADER.size : length])
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            return
        try:
            self._reply(unique, 0, self._result(opcode, unique, inode, body))
        except OSError as error:
            self._reply(unique, -(error.errno or errno.EIO), b"")
        if opcode == INIT:
            U64.pack_into(self._memory, H_INIT_DONE, 1)

    def _reply(self, unique: int, error: int, data: bytes) -> None:
        try:
            os.write(self._fuse_fd, OUT_HEADER.pack(OUT_HEADER.size + len(data), error, unique) + data)
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENODEV):
                raise

    def _result(self, opcode: int, unique: int, inode: int, body: bytes) -> bytes:
        if opcode == INIT:
            _, minor, read_ahead, flags = struct.unpack_from("<4I", body)
            flags2 = struct.unpack_from("<I", body, 16)[0] if flags & INIT_EXT else 0
            wanted = struct.pack(
                "<4IHH2IHHII", 7, minor, read_ahead, flags & INIT_EXT, 64, 48, 128 << 10, 1, 0, 0, flags2 & PASSTHROUGH_FLAGS2, 1
            )
            return wanted + bytes(64 - len(wanted))
        if opcode == GETATTR:
            return struct.pack("<QII", 1, 0, 0) + attributes(inode)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") not in FILES:
                raise OSError(errno.ENOENT, "no such name")
            number = FILES[body.rstrip(b"\0")][0]
            return struct.pack("<4QII", number, 0, 1, 1, 0, 0) + attributes(number)
        if opcode == OPEN:
            return self._open(unique, inode)
        if opcode == READ:
            return self._read(inode, body)
        if opcode == RELEASE and inode == FILES[b"backed"][0]:
            self._ask({"ask": "release", "inode": inode, "unique": unique}, None)
        if opcode == READDIR:
            return self._read_directory(struct.unpack_from("<QQ", body)[1])
        if opcode in (RELEASE, RELEASEDIR, DESTROY):
            return b""
        if opcode == OPENDIR:
            return struct.pack("<QII", 0, 0, 0)
        raise OSError(errno.ENOSYS, "not needed")

    def _read_directory(self, offset: int) -> bytes:
        entries = b""
        for position, (name, (number, _)) in enumerate(FILES.items(), 1):
            if position > offset:
                entry = struct.pack("<QQII", number, position, len(name), stat.S_IFREG >> 12) + name
                entries += entry.ljust(-(-len(entry) // 8) * 8, b"\0")
        return entries

    def _open(self, unique: int, inode: int) -> bytes:
        if inode == FILES[b"backed"][0]:
            answer = self._ask({"ask": "open", "inode": inode, "unique": unique}, fake_dir() / "tier" / "container")
            if answer.get("mode") == "passthrough":
                return struct.pack("<QIi", 0, FOPEN_PASSTHROUGH, int(answer["backing_id"]))
        return struct.pack("<QIi", 0, FOPEN_DIRECT_IO, 0)

    def _read(self, inode: int, body: bytes) -> bytes:
        if inode == FILES[b"hello"][0]:
            if status := misdeed("serve.exit"):
                end(status)
            if seconds := misdeed("serve.hang"):
                time.sleep(float(seconds))
        _, offset, size = struct.unpack_from("<QQI", body)
        return b"h" * max(0, min(int(size), SIZES[inode] - int(offset)))

    def _ask(self, question: dict[str, object], path: object) -> dict[str, Any]:
        rights = []
        if path is not None:
            file = os.open(str(path), os.O_RDONLY)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]
        self._favour.sendmsg([json.dumps(question).encode()], rights)
        if path is not None:
            os.close(file)
        answer: dict[str, Any] = json.loads(self._favour.recv(4096))
        return answer


def obey(control: Control) -> None:
    while True:
        message, _ = control.receive()
        if message is None:
            return  # the supervisor died: go on until the mount is gone
        if message["do"] == "ping":
            control.tell({"did": "pong"})
        elif message["do"] == "stop" and not misdeed("serve.ignore_stop"):
            os._exit(0)


def main() -> None:
    control = Control(int(sys.argv[1]))
    control.tell({"did": "warm"})
    message, fds = control.receive()
    if message is None:
        return
    time.sleep(float(misdeed(f"serve.late.{message['serve_index']}") or 0))
    note_start("serve", message)
    if status := misdeed("serve.exit_at_start"):
        end(status)
    threading.Thread(target=obey, args=(control,), daemon=True).start()
    Server(message, fds).serve(control)
    os._exit(0)


main()
