"""`python -m fusecache.custody.keeper --root DIR [--grace SECONDS]`: custody as a process of its own, for all mounts of a node.

State: the mounts, their descriptors, the daemons that have duplicates. One thread, one loop; nothing here opens or stats a mount,
so that no daemon can hang it, and it has no store code, so that it hardly ever needs to be replaced. Killed, it is started again:
the journal says what is mounted, and the daemons bring everything back. Messages: contract/keeping.py.
"""

from __future__ import annotations

import array
import contextlib
import json
import logging
import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fusecache.base import durable_files
from fusecache.base.hardening import harden_process
from fusecache.base.run_sockets import listen_in
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.keeping import (
    ADMIN_SOCKET,
    CUSTODY_SOCKET,
    GRACE_SECONDS,
    JOURNAL_DIR,
    KEEPER_FILE,
    LOCK_FILE,
    MAX_DATAGRAM_BYTES,
    MAX_FDS,
    MOUNTS_DIR,
    STATE_VERSION,
)
from fusecache.custody import kernel
from fusecache.custody.custody_client import is_initialized
from fusecache.custody.event_loop import EventLoop, close_quietly
from fusecache.custody.kept_mount import KeptMount, Order
from fusecache.custody.mount_table import ProcessId
from fusecache.custody.request_server import Reply, RequestServer

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_UCRED = struct.Struct("3i")


class Keeper:
    """Call `run` once."""

    def __init__(self, root: Path, grace_seconds: float) -> None:
        self._root = root
        self._grace_seconds = grace_seconds
        self._loop = EventLoop()
        self._mounts: dict[str, KeptMount] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._stop_wanted = False
        self._lock_fd = -1

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Mounts stay: what the daemons have they keep, and they bring it back to the next one."""
        (self._root / JOURNAL_DIR).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._take_lock():
            log.error("another custody runs for %s: this one ends", self._root)
            return 1
        (self._root / MOUNTS_DIR).mkdir(exist_ok=True)
        (self._root / MOUNTS_DIR).chmod(0o711)  # daemons of other users pass through; the umask would forbid it
        self._loop.catch_signals((signal.SIGTERM, signal.SIGINT), lambda number: self._end())
        try:
            durable_files.write(self._root / KEEPER_FILE, asdict(ProcessId.of(os.getpid())))
        except OSError as error:  # a full disk: mounts are to be kept all the same
            log.error("%s cannot be written: %s", KEEPER_FILE, error)
        self._load()
        RequestServer(self._loop, listen_in(str(self._root), ADMIN_SOCKET, socket.SOCK_STREAM), self._on_admin)
        self._look()
        log.info("custody keeps %d mounts in %s", len(self._mounts), self._root)
        self._loop.run_until(lambda: self._stop_wanted)
        return 0

    def _end(self) -> None:
        self._stop_wanted = True

    def _take_lock(self) -> bool:
        """Return whether we are the only one for this directory. The lock ends with the process, however that ends."""
        self._lock_fd = os.open(self._root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return kernel.lock_exclusively(self._lock_fd)

    # -- the journal

    def _load(self) -> None:
        for name, raw in durable_files.load_all(self._root / JOURNAL_DIR).items():
            try:
                mount = KeptMount(Order.of_json(raw))
            except CacheError as error:
                log.error("journal entry %s is left alone: %s", name, error)
                continue
            if not mount.is_mounted:
                log.info("the mount of %s is gone; its entry is removed", name)
                mount.unmount_unfinished()
                self._remove_entry(name)
                continue
            self._mounts[name] = mount
            try:
                self._listen(mount)
            except OSError as error:  # the directory is its daemon's, which may have made anything of it
                log.error("daemons of %s cannot reach custody: %s", name, error)

    def _store(self, mount: KeptMount) -> None:
        durable_files.write(self._entry(mount.order.id), mount.order.to_json())

    def _remove_entry(self, name: str) -> None:
        durable_files.remove(self._entry(name))

    def _entry(self, name: str) -> Path:
        return self._root / JOURNAL_DIR / f"{name}{durable_files.SUFFIX}"

    # -- the driver

    def _on_admin(self, request: dict[str, Any], reply: Reply) -> None:
        """Raises: CacheError, which is the answer."""
        what = request.pop("do", None)
        if what == "list":
            mounts = {name: _shown(mount) for name, mount in self._mounts.items()}
            held = sum(len(mount.given_fds()) for mount in self._mounts.values() if mount.is_held)
            return reply({"done": True, "mounts": mounts, "descriptors": held})
        name = str(request.get("id", ""))
        if not _ID.fullmatch(name):
            raise CacheError(ErrorKind.INVALID, f"{name[:100]!r} is no name of a mount")
        if what == "mount":
            return reply({"done": True, "device": self._mount(request).order.device})
        mount = self._mounts.get(name)
        if what == "unmount":
            if mount is not None:
                self._unmount(mount, detach=bool(request.get("detach")), abort=bool(request.get("abort")))
        elif what == "use":
            if mount is None:
                raise CacheError(ErrorKind.NOT_FOUND, f"{name} is not mounted")
            mount.order = replace(mount.order, volumes=tuple(map(str, request.get("volumes", ()))))
            self._store(mount)
        else:
            raise CacheError(ErrorKind.INVALID, f"unknown request {what!r}; known are mount, unmount, list, use")
        reply({"done": True})

    def _mount(self, request: dict[str, Any]) -> KeptMount:
        order = Order.of_json(request)
        known = self._mounts.get(order.id)
        if known is not None and known.is_mounted and (known.mount is None or known.mount.is_connected()):
            if replace(known.order, device="", volumes=()) != replace(order, device="", volumes=()):
                raise CacheError(ErrorKind.EXISTS, f"{order.id} is mounted in another way: unmount it first")
            return known
        if known is not None:
            self._unmount(known, detach=True)
        mount = KeptMount(replace(order, device=""))
        self._store(mount)
        try:
            mount.make()
            assert mount.mount is not None
            mount.order = replace(order, device=mount.mount.device)
            self._store(mount)
            self._listen(mount)
        except (CacheError, OSError):
            if mount.is_held:
                mount.unmount(detach=True)
            self._remove_entry(order.id)
            raise
        self._mounts[order.id] = mount
        log.info("mounted %s at %s", order.id, order.mountpoint)
        return mount

    def _unmount(self, mount: KeptMount, *, detach: bool, abort: bool = False) -> None:
        mount.unmount(detach=detach, abort=abort)
        self._forget(mount)
        log.info("unmounted %s", mount.order.id)

    def _forget(self, mount: KeptMount) -> None:
        name = mount.order.id
        self._drop_daemon(mount)
        listener = self._listeners.pop(name, None)
        if listener is not None:
            self._loop.unregister(listener.fileno())
            listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._directory(name) / CUSTODY_SOCKET)
            os.rmdir(self._directory(name))
        self._mounts.pop(name, None)
        self._remove_entry(name)

    # -- the daemons

    def _directory(self, name: str) -> Path:
        return self._root / MOUNTS_DIR / name

    def _listen(self, mount: KeptMount) -> None:
        name = mount.order.id
        if name in self._listeners:
            return
        directory = self._directory(name)
        directory.mkdir(mode=0o700, exist_ok=True)
        listener = listen_in(str(directory), CUSTODY_SOCKET, socket.SOCK_SEQPACKET)
        for path in (directory, directory / CUSTODY_SOCKET):
            os.chown(path, mount.order.uid, -1, follow_symlinks=False)
        listener.setblocking(False)
        self._listeners[name] = listener
        self._loop.register(listener.fileno(), lambda: self._accept(mount, listener))

    def _accept(self, mount: KeptMount, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in (0, mount.order.uid):
            log.warning("uid %d asked for the mount of uid %d", uid, mount.order.uid)
            connection.close()
            return
        connection.setblocking(False)
        self._loop.register(connection.fileno(), lambda: self._on_daemon(mount, connection))

    def _on_daemon(self, mount: KeptMount, connection: socket.socket) -> None:
        fds: list[int] = []
        try:
            data = _receive(connection, fds)
            if data is None:
                return
            if not data:
                return self._daemon_gone(mount, connection)
            message = json.loads(data)
            fds = self._do(mount, connection, message, fds)
        except CacheError as error:
            _say(connection, {"did": "refused", "kind": int(error.kind), "error": str(error)})
        except (ValueError, KeyError, TypeError) as error:
            _say(connection, {"did": "refused", "kind": int(ErrorKind.INVALID), "error": f"not understood: {error!r}"})
        except (OSError, struct.error) as error:  # of what it has sent: it may send anything
            _say(connection, {"did": "refused", "kind": int(ErrorKind.UNAVAILABLE), "error": f"it failed: {error!r}"})
        finally:
            close_quietly(*fds)

    def _do(self, mount: KeptMount, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> list[int]:
        """Return the descriptors that are left over. Raises: CacheError."""
        what = message.get("do")
        if what in ("take", "return") and message.get("version") != STATE_VERSION:
            raise CacheError(
                ErrorKind.UNSUPPORTED,
                f"the daemon's state has version {message.get('version')}, custody's {STATE_VERSION}: unmount, and mount again",
            )
        if what == "take":
            self._take(mount, connection)
        elif what == "return":
            if mount.is_held:
                raise CacheError(ErrorKind.BUSY, "another daemon has the mount")
            mount.take_back(fds)
            fds = []
            self._use(mount, connection)
            _say(connection, {"did": "kept"})
            log.info("%s is held again", mount.order.id)
        elif what == "favours" and connection is mount.daemon and len(fds) == 1:
            self._watch_favours(mount, socket.socket(fileno=fds.pop()))
        elif what == "read_ahead" and connection is mount.daemon:
            _say(connection, {"did": "read_ahead", "problem": mount.read_ahead_problem()})
        else:
            raise CacheError(ErrorKind.INVALID, f"unknown message {what!r}, or not from the daemon that has the mount")
        return fds

    def _take(self, mount: KeptMount, connection: socket.socket) -> None:
        if not mount.is_held:
            raise CacheError(
                ErrorKind.UNAVAILABLE, "the descriptors are with another daemon, which has not brought them back yet"
            )
        assert mount.mount is not None
        if mount.daemon is not None and mount.daemon is not connection:
            _say(mount.daemon, {"do": "end"})
        self._use(mount, connection)
        order = mount.order
        answer = {
            "did": "given",
            "device": order.device,
            "mountpoint": order.mountpoint,
            "read_only": mount.mount.is_read_only,
            "serve_count": order.serve_count,
        }
        _say(connection, answer, mount.given_fds())

    def _use(self, mount: KeptMount, connection: socket.socket) -> None:
        if mount.daemon is not connection:
            self._drop_daemon(mount)
        mount.daemon = connection

    def _drop_daemon(self, mount: KeptMount) -> None:
        if mount.daemon is not None:
            self._loop.unregister(mount.daemon.fileno())
            mount.daemon.close()
            mount.daemon = None
        mount.alone_since = time.monotonic()

    def _daemon_gone(self, mount: KeptMount, connection: socket.socket) -> None:
        if mount.daemon is connection:
            log.warning("%s has no daemon", mount.order.id)
            return self._drop_daemon(mount)
        self._loop.unregister(connection.fileno())
        connection.close()

    def _watch_favours(self, mount: KeptMount, channel: socket.socket) -> None:
        channel.setblocking(False)

        def answer() -> None:
            if mount.favours is None or not mount.favours.answer_all(channel):
                self._loop.unregister(channel.fileno())
                channel.close()

        self._loop.register(channel.fileno(), answer)

    # -- time

    def _look(self) -> None:
        """Nothing hangs for ever: a connection that nobody serves is ended."""
        for mount in list(self._mounts.values()):
            if not mount.is_mounted:
                log.info("the mount of %s was taken away by somebody", mount.order.id)
                mount.let_go()
                self._forget(mount)
            elif mount.daemon is None and time.monotonic() - mount.alone_since > self._grace_seconds:
                log.error("%s had no daemon for %g s: its connection is ended", mount.order.id, self._grace_seconds)
                with contextlib.suppress(CacheError):
                    mount.end_connection()
                mount.alone_since = time.monotonic()
        self._loop.call_later(LOOK_SECONDS, self._look)


def _receive(connection: socket.socket, fds: list[int]) -> bytes | None:
    """Return a datagram, b"" at the end, None if there is none now; its descriptors go to `fds`."""
    received = array.array("i")
    try:
        data, ancillary, flags, _ = connection.recvmsg(
            MAX_DATAGRAM_BYTES, socket.CMSG_SPACE(MAX_FDS * received.itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except BlockingIOError:
        return None
    except OSError:
        return b""
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    fds.extend(received)
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        raise ValueError("a datagram that is too large")
    return data


def _say(connection: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with contextlib.suppress(OSError):  # it died: its end is seen
        connection.sendmsg([json.dumps(message).encode()], rights)


def _is_initialized(mount: KeptMount) -> bool:
    try:
        return mount.is_held and is_initialized(mount.fds[0])
    except (OSError, struct.error):  # the daemon has the memory as well, and may have truncated it
        return False


def _shown(mount: KeptMount) -> dict[str, Any]:
    return {
        "mountpoint": mount.order.mountpoint,
        "device": mount.order.device,
        "has_daemon": mount.daemon is not None,
        "is_held": mount.is_held,
        "is_initialized": _is_initialized(mount),
        "is_connected": mount.mount is not None and mount.mount.is_connected(),
        "volumes": list(mount.order.volumes),
    }


def main() -> int:
    """Arguments as the module says; argparse would take longer than everything else."""
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    if set(options) - {"--root", "--grace", "--log-level"} or "--root" not in options or len(sys.argv) % 2 == 0:
        sys.exit("usage: python -m fusecache.custody.keeper --root DIR [--grace SECONDS] [--log-level LEVEL]")
    logging.basicConfig(level=options.get("--log-level", "INFO"), format="%(asctime)s %(levelname)s custody: %(message)s")
    harden_process()
    os.umask(0o077)
    return Keeper(Path(options["--root"]).resolve(), float(options.get("--grace", GRACE_SECONDS))).run()


if __name__ == "__main__":
    sys.exit(main())
