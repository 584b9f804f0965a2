"""Ends a mount, whether or not its supervisor still lives, and leaves nothing of it behind.

Owns no state. Called by `fusecache umount` in its own process; may block for as long as daemons take to end, but never on the
mount.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable

from fusecache.base.run_sockets import connect_in
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.run_files import SUPERVISOR_SOCKET
from fusecache.custody import fuse_mount, kernel
from fusecache.custody.mount_holders import describe_holders
from fusecache.custody.mount_table import MountRecord, ProcessId, find_record, remove_run_dir
from fusecache.custody.mountinfo import FSTYPE, find_mount, resolve_mountpoint

SUPERVISOR_SECONDS = 30.0  # it gives serve 3 s, fetch 10 s, and kills
DYING_SECONDS = 0.3
EXIT_SECONDS = 5.0
OnWaiting = Callable[[int, int], None]
SERVE_SECONDS = 3.0
FETCH_SECONDS = 10.0


def unmount(root: str, mountpoint: str, *, lazy: bool = False, on_waiting: OnWaiting = lambda files, size: None) -> None:
    """End the mount at `mountpoint`, one of those whose run directories lie below `root`.

    A mount that was written to is gone at once, but its files may still be on their way to the store: `on_waiting` is called
    about once a second with their number and bytes, and `lazy` leaves them to the next mount.

    Returns when mount, processes and run directory are gone.
    Raises: CacheError(NOT_FOUND) if nothing is mounted there; CacheError(BUSY) naming who holds it, unless `lazy`.
    """
    mountpoint = resolve_mountpoint(mountpoint)
    record = find_record(root, mountpoint)
    if record is None:
        entry = find_mount(mountpoint)
        if entry is None or entry.fstype != FSTYPE:
            raise CacheError(ErrorKind.NOT_FOUND, f"{mountpoint!r} is not mounted by fusecache; see: fusecache status")
        return _take_away(mountpoint, entry.device, lazy=lazy)
    if record.is_supervised and _ask_supervisor(record, lazy, on_waiting):
        return
    _end_without_supervisor(record, lazy)


def _ask_supervisor(record: MountRecord, lazy: bool, on_waiting: OnWaiting) -> bool:
    """Let the supervisor unmount; False if it died over it. Raises: CacheError: its answer, or TIMEOUT."""
    answer: dict[str, object] = {}
    try:
        with connect_in(record.run_dir, SUPERVISOR_SOCKET, socket.SOCK_STREAM, SUPERVISOR_SECONDS) as connection:
            connection.sendall(json.dumps({"do": "umount", "lazy": lazy}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline() or b"{}")
                while answer.get("waiting"):
                    on_waiting(int(str(answer["files"])), int(str(answer["bytes"])))
                    answer = json.loads(lines.readline() or b"{}")
    except TimeoutError:
        if not lazy:
            message = (
                f"the supervisor (pid {record.supervisor.pid}) does not answer; use: fusecache umount --lazy {record.mountpoint}"
            )
            raise CacheError(ErrorKind.TIMEOUT, message) from None
        _end([record.supervisor], 0.0, None)
        return False
    except OSError:
        answer = {}
    if "error" in answer:
        raise CacheError(ErrorKind(int(str(answer.get("kind", ErrorKind.BUG.value)))), str(answer["error"]))
    _end([record.supervisor], EXIT_SECONDS, None)
    return bool(answer.get("done"))


def _end_without_supervisor(record: MountRecord, lazy: bool) -> None:
    """Unmount, then end the daemons that went on without a supervisor, then remove the files."""
    is_served = _stay_alive(record.serve)
    if record.device:
        # Whoever holds a mount that nobody serves gets errors already: it may go from under them.
        _take_away(record.mountpoint, record.device, lazy=lazy or not is_served)
    _end(record.serve, SERVE_SECONDS, signal.SIGTERM)  # they see the end of the connection by themselves
    _end(record.spares, 0.0, None)
    if record.fetch is not None:
        with contextlib.suppress(ProcessLookupError):
            _signal(record.fetch, signal.SIGTERM)  # writes the clean marker
        _end([record.fetch], FETCH_SECONDS, None)
    remove_run_dir(record.run_dir)


def _stay_alive(processes: Iterable[ProcessId]) -> bool:
    """Whether one of them goes on: a process that was killed has closed its files a little before it counts as ended."""
    pidfds = _open_pidfds(processes)
    try:
        return bool(_wait_ended(pidfds, DYING_SECONDS))
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def _take_away(mountpoint: str, device: str, *, lazy: bool) -> None:
    try:
        fuse_mount.unmount(mountpoint, device, detach=False)
    except CacheError as error:
        if error.kind is not ErrorKind.BUSY:
            raise
        if not lazy:
            holders = describe_holders(mountpoint)
            raise CacheError(
                ErrorKind.BUSY, f"{error} (used by {holders}); end them, or use: fusecache umount --lazy {mountpoint}"
            ) from error
        fuse_mount.unmount(mountpoint, device, detach=True)
        with contextlib.suppress(OSError):  # an ordinary user without fusectl: the connection ends with the last serve process
            kernel.abort_fuse_connection(int(device.partition(":")[2]))


def _open_pidfds(processes: Iterable[ProcessId]) -> list[int]:
    pidfds = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            pidfds.append(_open_pidfd(process))
    return pidfds


def _open_pidfd(process: ProcessId) -> int:
    """Return a pidfd of exactly this process. Raises: ProcessLookupError."""
    pidfd = os.pidfd_open(process.pid)
    if not process.is_alive:  # looked at after opening: now the pid cannot change hands any more
        os.close(pidfd)
        raise ProcessLookupError(process.pid)
    return pidfd


def _signal(process: ProcessId, number: signal.Signals) -> None:
    pidfd = _open_pidfd(process)
    try:
        signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def _end(processes: Iterable[ProcessId], patience_seconds: float, gentle: signal.Signals | None) -> None:
    """Wait for processes to end by themselves; then send `gentle`; then kill."""
    pidfds = _open_pidfds(processes)
    try:
        left = _wait_ended(pidfds, patience_seconds)
        for number in (*((gentle,) if gentle else ()), signal.SIGKILL):
            for pidfd in left:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
            left = _wait_ended(left, EXIT_SECONDS)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def _wait_ended(pidfds: list[int], seconds: float) -> list[int]:
    """Return the pidfds of processes that still run after `seconds`."""
    deadline = time.monotonic() + seconds
    left = list(pidfds)
    while left:
        poller = select.poll()
        for pidfd in left:
            poller.register(pidfd, select.POLLIN)
        ended = {fd for fd, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)}
        left = [pidfd for pidfd in left if pidfd not in ended]
        if time.monotonic() >= deadline:
            break
    return left
