"""The listening sockets of a run directory and connections to them, whatever the length of its path.

Owns no state. A unix socket's address holds 108 bytes; /proc/self/fd/N/NAME is always shorter than that.
"""

from __future__ import annotations

import contextlib
import os
import socket


def listen_in(run_dir: str, name: str, kind: socket.SocketKind, backlog: int = 128) -> socket.socket:
    """Return a listening socket at run_dir/name, mode 0600; what lay there before is replaced. Raises: OSError."""
    directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        os.fchmod(listener.fileno(), 0o600)  # of what bind makes; a name could lead elsewhere by then, if others may write here
        listener.bind(f"/proc/self/fd/{directory}/{name}")
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener


def connect_in(run_dir: str, name: str, kind: socket.SocketKind, timeout_seconds: float | None = None) -> socket.socket:
    """Return a connection to run_dir/name. Raises: OSError (nobody listens)."""
    directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        connection.settimeout(timeout_seconds)
        connection.connect(f"/proc/self/fd/{directory}/{name}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection
