"""Asks the fetch process of a mount: the client side of contract/control.py.

State: one connection for one request. Blocking, with a bound on every wait; called by commands from any thread.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from fusecache.base.run_sockets import connect_in
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.run_files import CONTROL_SOCKET

_MAX_LINE_BYTES = 64 << 20  # the list of what failed in a warm of millions of files


class ConnectionLost(CacheError):
    """fetch went away in the middle of an answer. It is being replaced: a request that may be repeated can be sent again."""


def ask(run_dir: str, request: Mapping[str, Any], timeout_seconds: float) -> Iterator[dict[str, Any]]:
    """Send a request and yield its answers, the one with "done" last.

    Args:
        timeout_seconds: bound on the wait for each answer.
    Raises: CacheError of the answer's kind; UNAVAILABLE if nobody listens; ConnectionLost; TIMEOUT.
    """
    try:
        connection = connect_in(run_dir, CONTROL_SOCKET, socket.SOCK_STREAM, timeout_seconds)
    except TimeoutError:
        raise _silent(timeout_seconds) from None
    except OSError as error:
        raise CacheError(
            ErrorKind.UNAVAILABLE, "the mount's daemon cannot be reached; see its state with fusecache status"
        ) from error
    with connection, connection.makefile("rb") as lines:
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            while True:
                line = lines.readline(_MAX_LINE_BYTES)
                if not line.endswith(b"\n"):
                    raise ConnectionLost(ErrorKind.UNAVAILABLE, "the mount's daemon went away while it answered; try again")
                answer = _decode(line)
                yield answer
                if answer.get("done"):
                    return
        except TimeoutError:
            raise _silent(timeout_seconds) from None
        except OSError as error:
            raise ConnectionLost(ErrorKind.UNAVAILABLE, "the mount's daemon went away while it answered; try again") from error


def call(run_dir: str, request: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """Return the final answer of a request. Raises: as `ask`."""
    return list(ask(run_dir, request, timeout_seconds))[-1]


def _decode(line: bytes) -> dict[str, Any]:
    """Raises: CacheError if the answer is an error, or none."""
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CacheError(ErrorKind.BUG, "the mount's daemon gave an answer that is not understood; is it of another version?")
    if "error" in answer:
        try:
            kind = ErrorKind(int(answer.get("kind", ErrorKind.BUG)))
        except ValueError:
            kind = ErrorKind.BUG
        raise CacheError(kind, str(answer["error"]))
    return answer


def _silent(seconds: float) -> CacheError:
    return CacheError(ErrorKind.TIMEOUT, f"the mount's daemon did not answer within {seconds:g} s; see its log, or try again")
