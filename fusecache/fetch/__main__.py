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

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_ARENAS = 2  # 11 MiB less than one for each of 24 threads, which share one interpreter lock anyhow; no slower (measured)
_LARGE_BYTES = 1 << 20  # given back at once; what comes often, blocks on their way, has buffers that stay


def _bound_malloc() -> None:
    """glibc gives each thread an arena, each of which keeps the largest ranges that its thread ever held; and once a large range
    was freed, it takes the next ones of that size from the arenas too."""
    with contextlib.suppress(AttributeError):  # another libc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


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
