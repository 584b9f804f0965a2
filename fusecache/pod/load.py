"""`python -m fusecache.pod.load`: the pod of a DataLoad. Has the cache pods of a Dataset load files, and tells how far they are.

It has no account and no volume, only the plan and the Dataset's token. What came of it is its exit status and its termination
message (load_progress.py); meanwhile `GET /status` tells whoever has the token. Options for tests: see `Options`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

from fusecache.base.hardening import harden_process
from fusecache.base.log import configure
from fusecache.contract.errors import CacheError
from fusecache.contract.exit_status import ExitStatus, exit_status_of
from fusecache.pod.endpoints import check_token
from fusecache.pod.http_client import Peer
from fusecache.pod.http_server import HttpError, HttpServer, Reply, Request
from fusecache.pod.load_plan import LoadPlan
from fusecache.pod.load_progress import MAX_MESSAGE_BYTES, Outcome
from fusecache.pod.loader import Loader

log = logging.getLogger(__name__)

PLAN = "FUSECACHE_LOAD"


class Options(NamedTuple):
    """Files: `token` of the Dataset's cache pods, `message` for kubelet."""

    token: str = "/etc/fusecache-token/token"
    message: str = "/dev/termination-log"


def main(arguments: Sequence[str]) -> int:
    given = dict(zip((name.removeprefix("--") for name in arguments[::2]), arguments[1::2], strict=False))
    if len(arguments) % 2 or set(given) - set(Options._fields):
        sys.stderr.write("usage: FUSECACHE_LOAD=PLAN python -m fusecache.pod.load [--token FILE] [--message FILE]\n")
        return ExitStatus.USAGE
    options = Options(**given)
    configure("load")
    harden_process()
    try:
        outcome = asyncio.run(_run(LoadPlan.parse(os.environ.get(PLAN, "")), options))
    except CacheError as error:
        outcome = Outcome(exit_status_of(error.kind), str(error))
    except Exception as error:
        log.exception("the loader failed")
        outcome = Outcome(ExitStatus.BUG, f"this is a fault of the program, see its log: {error!r}")
    (log.info if outcome.status is ExitStatus.OK else log.error)("%s", outcome.words)
    with contextlib.suppress(OSError), open(options.message, "w", encoding="utf-8", errors="replace") as file:
        file.write(outcome.message()[:MAX_MESSAGE_BYTES])
    return outcome.status


async def _run(plan: LoadPlan, options: Options) -> Outcome:
    """Raises: CacheError."""
    loader = Loader(plan, options.token, lambda: resolve(plan.service, plan.port))

    async def handle(request: Request, reply: Reply) -> None:
        if request.path != "/status":
            raise HttpError(404, "there is only /status")
        check_token(request, options.token)
        await reply.send_json(200, loader.status())

    loading = asyncio.create_task(loader.run())
    serving = asyncio.create_task(HttpServer(handle).run("", plan.listen_port))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, loading.cancel)
    try:
        return await loading
    except asyncio.CancelledError:
        words = "the load was told to end before it was complete; what is cached stays cached"
        return Outcome(ExitStatus.INTERRUPTED, words, loader.figures)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def resolve(service: str, port: int) -> list[Peer]:
    """Return where cache pods are, none if DNS knows none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(service, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({Peer(str(address[0]), port) for *_, address in found})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
