"""A cache pod from its start to its end: waits for its turn, has the supervisor serve the Dataset, and tells of it over HTTP.

State: none of its own. In order: read the configuration, wait for secrets that are missing, wait while another pod has the cache,
order. When the supervisor ends after it has served, so do we, with its status, and kubelet starts the container again. A source
that cannot be used is told of and tried again by ourselves: kubelet would wait longer and longer, whatever was mended meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from fusecache.base.log import configure
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.exit_status import exit_status_of
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import PROBLEM, SPEC
from fusecache.pod import eraser
from fusecache.pod.arguments import Arguments
from fusecache.pod.dataset_config import DatasetConfig, load
from fusecache.pod.early import EarlySupervisor
from fusecache.pod.endpoints import Endpoints
from fusecache.pod.http_server import HttpServer
from fusecache.pod.left_tiers import start_removing
from fusecache.pod.standby import Turn
from fusecache.pod.state import Phase, PodState
from fusecache.pod.supervisor_process import SupervisorProcess

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # for a secret that is missing: kubelet takes up to a minute anyway
LAST_WORD_SECONDS = 1.0
MAX_PROBLEM_BYTES = 1000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 15.0  # until a source that could not be used is tried again
# In the environment, as the program is executed anew for each attempt: how many have failed in a row, and what was wrong.
FAILURES, PROBLEM_BEFORE = "FUSECACHE_POD_FAILURES", "FUSECACHE_POD_PROBLEM"


class SourceError(CacheError):
    """The supervisor could not begin to serve: what is wrong may be mended without us."""


def run(arguments: Arguments, early: EarlySupervisor) -> int:
    """Return the exit status. Does not return, but executes the program anew, when a source could not be used."""
    configure("pod")
    status = asyncio.run(_run(arguments, early))
    if status is None:
        os.environ[FAILURES] = str(_failures() + 1)
        os.execv(sys.executable, sys.orig_argv)
    return status


def _failures() -> int:
    return int(os.environ.get(FAILURES, "0"))


async def _run(arguments: Arguments, early: EarlySupervisor) -> int | None:
    pod = Pod(arguments, early)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, pod.stop)
    server = asyncio.create_task(HttpServer(pod.endpoints.handle).run(arguments.address, arguments.port))
    try:
        return await pod.run()
    finally:
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server


class Pod:
    """Made in a running loop. Call `run` once."""

    def __init__(self, arguments: Arguments, early: EarlySupervisor) -> None:
        self._arguments = arguments
        self._supervisor = SupervisorProcess(early)
        self._turn = Turn(early.lock_fd, arguments.cache)
        self._stopped = asyncio.Event()
        self._erasing = asyncio.Event()
        self._erase_asked_at = 0.0
        self._erased: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._state = PodState()
        self._problem_before = os.environ.get(PROBLEM_BEFORE, "")
        if self._problem_before:
            self._state.enter(Phase.WAITING, self._problem_before)
        self.endpoints = Endpoints(self._state, arguments.custody, arguments.token, arguments.own_token, self.erase)

    def stop(self) -> None:
        self._stopped.set()

    def erase(self) -> asyncio.Future[None]:
        """Have the daemon end and the cache removed, for good. Return what is done when that is, and says why it was not."""
        self._erase_asked_at = asyncio.get_running_loop().time()
        self._erasing.set()
        return self._erased

    async def run(self) -> int | None:
        """Return the exit status: the supervisor's, or why it got no order; None: the source is to be tried again."""
        serving = asyncio.create_task(self._serve())
        stopped = asyncio.create_task(self._stopped.wait())
        ended = asyncio.create_task(self._supervisor.wait_ended())
        erasing = asyncio.create_task(self._erasing.wait())
        try:
            await asyncio.wait({serving, stopped, ended, erasing}, return_when=asyncio.FIRST_COMPLETED)
            if erasing.done() and not stopped.done():
                serving.cancel()
                await self._erase(ended)
                return await self._wait_erased(stopped)
            if stopped.done() and not ended.done():
                await self._end()
                return await ended
            await asyncio.wait({serving}, timeout=LAST_WORD_SECONDS)  # it reads what the supervisor said before it ended
            error = serving.exception() if serving.done() else None
            self._supervisor.terminate()
            status = await ended
            if isinstance(error, SourceError):
                self._tell_problem(error)
                self._state.enter(Phase.WAITING, str(error))
                os.environ[PROBLEM_BEFORE] = str(error)[:MAX_PROBLEM_BYTES]
                pause = min(FIRST_PAUSE_SECONDS * 2 ** min(_failures(), 8), LONGEST_PAUSE_SECONDS)
                await asyncio.wait({stopped}, timeout=pause)
                return 0 if stopped.done() else None
            if isinstance(error, CacheError):
                self._tell_problem(error)
                return status or exit_status_of(error.kind)
            if error is not None:
                raise error
            return status
        finally:
            for task in (serving, stopped, ended, erasing):
                task.cancel()

    async def _wait_erased(self, stopped: asyncio.Task[Literal[True]]) -> int:
        """Wait for the end. Whoever takes a Dataset away asks until it is gone: if nobody asks any more, it has got a runtime
        again, the same as before, and so this pod stays. Its container ends, and the next one serves."""
        loop = asyncio.get_running_loop()
        while (left := self._erase_asked_at + self._arguments.erased_seconds - loop.time()) > 0 and not stopped.done():
            await asyncio.wait({stopped}, timeout=left)
        if not stopped.done():
            log.info("nobody asks for the cache to be removed any more: it is served again")
        return 0

    async def _serve(self) -> None:
        """Wait for what has to be there, have the mount served, and then for ever. Raises: CacheError."""
        config = load(self._arguments)
        await self._wait_for_secrets(config)
        if not self._turn.take_nowait():
            await self._stand_by()
            log.info("the cache is ours")
        if not self._problem_before:
            self._state.enter(Phase.STARTING, "the daemon starts: it waits for the mount of custody, and for the source")
        spec_path = _store_spec(config.spec)
        self._turn.leave_to_supervisor(config.spec.mountpoint)
        self._supervisor.order(spec_path)
        start_removing(self._arguments.cache, [os.path.basename(tier.path) for tier in config.spec.tiers])
        report = await self._supervisor.report()
        if report.error is not None:
            await self._supervisor.wait_ended()
            raise report.error if report.error.kind is ErrorKind.BUG else SourceError(report.error.kind, str(report.error))
        self._state.enter(Phase.SERVING, "")
        (Path(self._arguments.custody) / PROBLEM).unlink(missing_ok=True)
        await asyncio.Event().wait()

    async def _stand_by(self) -> None:
        """Return when the cache is ours. We say that we stand by as soon as we would take over within a moment: then, and not
        before, is the other pod told to end, and all who read wait for what our daemons still had to import."""
        turn = asyncio.create_task(self._turn.wait())
        warm = asyncio.create_task(self._supervisor.wait_warm())
        try:
            await asyncio.wait({turn, warm}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                self._state.enter(
                    Phase.STANDBY, "another pod of the Dataset has the cache of this node: this one stands by for it"
                )
                log.info("%s", self._state.reason)
            await turn
        finally:
            turn.cancel()
            warm.cancel()

    async def _wait_for_secrets(self, config: DatasetConfig) -> None:
        while missing := config.missing_secrets:
            said = f"{missing[0]} is missing: put that key into the Secret with the Dataset's credentials"
            if said != self._state.reason:
                self._state.enter(Phase.WAITING, said)
                log.error("%s", said)
                self._write_problem(said)
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self) -> None:
        """The supervisor is to end: at once if another pod waits for the cache, else it makes the index safe before."""
        is_serving = self._state.phase is Phase.SERVING
        self._state.enter(Phase.ENDING, "the pod ends")
        if is_serving and self._turn.somebody_waits:
            log.info("another pod waits: it gets mount and cache")
            return await self._supervisor.give_way(self._arguments.custody)
        self._supervisor.terminate()

    async def _erase(self, ended: asyncio.Task[int]) -> None:
        """A pod that was not serving has nothing of its own, and removes what the last one left."""
        self._state.enter(Phase.ENDING, "the Dataset is gone: what it had cached is removed")
        log.info("%s", self._state.reason)
        self._supervisor.terminate()
        await ended
        while not self._erased.done():
            try:
                await asyncio.to_thread(eraser.erase, self._arguments)
                self._erased.set_result(None)
            except (CacheError, OSError) as error:
                log.warning("the cache is not removed yet: %s", error)
                await asyncio.sleep(LOOK_SECONDS)

    def _tell_problem(self, error: CacheError) -> None:
        log.error("%s", error)
        self._write_problem(str(error))

    def _write_problem(self, said: str) -> None:
        """For the node plugin, which says it to whoever waits for the mount."""
        path = Path(self._arguments.custody) / PROBLEM
        with contextlib.suppress(OSError):
            path.with_suffix(".new").write_bytes(said.encode()[:MAX_PROBLEM_BYTES])
            path.with_suffix(".new").rename(path)


def _store_spec(spec: MountSpec) -> str:
    """Called with the lock of the cache: a pod before us has removed its files, or left them to us. Raises: CacheError."""
    path = Path(spec.run_dir) / SPEC
    scratch = path.with_suffix(".new")
    try:
        scratch.unlink(missing_ok=True)
        with open(scratch, "w", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_EXCL, 0o600)) as file:
            file.write(spec.to_json())
        scratch.rename(path)
    except OSError as error:
        raise CacheError(
            ErrorKind.DENIED, f"{path} cannot be written: {error.strerror}; mount the Dataset's custody volume at {spec.run_dir}"
        ) from error
    return str(path)
