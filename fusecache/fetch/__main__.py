"""Entry of the fetch process: `python -m fusecache.fetch FD`. Everything is imported before START is awaited, so that a spare
is warm."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import socket
import sys

import trio

from fusecache.base import log
from fusecache.base.hardening import harden_process
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.process import ExitCode
from fusecache.fetch.process import Fetch, receive_start

_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2  # 11 MiB less than one for each of 24 threads, which share one interpreter lock anyhow; no slower (measured)


def _bound_malloc() -> None:
    """glibc gives each thread an arena, each of which keeps the largest ranges that its thread ever held."""
    with contextlib.suppress(AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def main() -> int:
    _bound_malloc()
    control = socket.socket(fileno=int(sys.argv[1]))
    harden_process()
    gc.freeze()  # what was imported lives for ever: the collector need not look at it again
    gc.set_threshold(50_000, 20, 20)  # a page of a listing is some ten thousand tuples without a cycle: 5 % of its time
    started = receive_start(control)
    if started is None:
        return ExitCode.OK
    message, fds = started
    log.configure("fetch", MountSpec.load(message["spec"]).log_level)

    async def run() -> int:
        return await Fetch(control, message, fds, dict(os.environ)).run()

    try:
        return trio.run(run)
    except Exception:
        logging.getLogger(__name__).exception("fetch ends because of an error that nobody expected")
        return 70  # EX_SOFTWARE: the supervisor starts another


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of a stalled store, and tokio's, must not hold the process or abort it on the way out
