"""Asks the daemon of a mount over its control socket (contract/control.py), whoever started it. Stateless."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping

from fusecache.base.run_sockets import connect_in
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.run_files import CONTROL_SOCKET

ASK_SECONDS = 3.0
MAX_ANSWER_BYTES = 1 << 20  # the daemon may be a pod's, and is not to fill our memory


async def ask(run_dir: str, request: Mapping[str, object], seconds: float = ASK_SECONDS) -> dict[str, object]:
    """Return what fetch answers. Raises: CacheError: its own, or UNAVAILABLE."""
    try:
        return await asyncio.to_thread(_ask, run_dir, request, seconds)
    except (OSError, ValueError) as error:
        raise CacheError(ErrorKind.UNAVAILABLE, f"the daemon of the mount does not answer: {error}") from error


async def answers(run_dir: str) -> bool:
    try:
        return bool(await ask(run_dir, {"do": "status"}))
    except CacheError:
        return False


def _ask(run_dir: str, request: Mapping[str, object], seconds: float) -> dict[str, object]:
    with connect_in(run_dir, CONTROL_SOCKET, socket.SOCK_STREAM, seconds) as connection, connection.makefile("rb") as lines:
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(lines.readline(MAX_ANSWER_BYTES) or b"{}")
    if not isinstance(answer, dict):
        raise ValueError("an answer that is not understood")
    if "error" in answer:
        raise CacheError(ErrorKind(int(answer.get("kind", ErrorKind.BUG))), str(answer["error"]))
    return answer
