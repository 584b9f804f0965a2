"""Paths of unix sockets that gRPC listens on. Stateless."""

from __future__ import annotations

import contextlib
import os
import stat

from csi.errors import invalid

MAX_PATH_BYTES = 100  # an address has 108, and gRPC takes some


def socket_path(endpoint: str) -> str:
    """Return the path of unix:///path. Raises: INVALID_ARGUMENT for anything but a unix socket."""
    path = endpoint.removeprefix("unix://") if endpoint.startswith("unix://") else endpoint.removeprefix("unix:")
    if not path.startswith("/") or "://" in path:
        raise invalid(f"endpoint {endpoint!r} is no unix socket: give unix:///path/csi.sock")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise invalid(f"the path of endpoint {endpoint!r} is longer than the {MAX_PATH_BYTES} bytes that a socket's may have")
    return path


def remove_socket(path: str) -> None:
    """Remove what a predecessor left. Nothing else than a socket is removed."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
