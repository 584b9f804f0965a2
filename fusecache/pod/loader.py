"""Has all cache pods of a Dataset that hold tiers load what a plan says, and waits until each of them has it.

State: which workers are loading, and which are done. Every worker loads everything: nodes do not share their caches yet, and a
program finds what was loaded on whichever worker it runs. Pods that stand by, or have no tiers, are left alone. A pod that goes
away is waited for, under the same address or another one, and asked again: what it has cached costs nothing. Used from one
event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.pod.control_client import raise_error
from fusecache.pod.http_client import Peer, Refused, get, post_lines
from fusecache.pod.load_plan import LoadPlan
from fusecache.pod.load_progress import Figures, LoadProgress, Outcome, outcome_of

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0
SILENCE_SECONDS = 90.0  # of a warm: a cache pod itself gives up on its daemon after 60 s
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 180.0  # without a word of any worker: a node that is started again is back by then
PENDING_SECONDS = 30.0  # for pods that have not said yet whether they are workers, when all others are done; a guess
_FINAL = (ErrorKind.NOT_FOUND, ErrorKind.INVALID, ErrorKind.NOT_A_DIRECTORY, ErrorKind.UNSUPPORTED)
_TOO_MANY_REQUESTS, _BAD_REQUEST, _UNAUTHORIZED = 429, 400, 401


class _Is(Enum):
    WORKER = "worker"
    NONE = "none"  # it stands by, or has no tiers
    UNKNOWN = "unknown"  # it does not answer, or not yet


class Loader:
    """Call `run` once. `resolve`: where cache pods are now."""

    def __init__(self, plan: LoadPlan, token_file: str, resolve: Callable[[], Awaitable[list[Peer]]]) -> None:
        self._plan = plan
        self._token_file = token_file
        self._resolve = resolve
        self._progress = LoadProgress()
        self._tasks: dict[Peer, asyncio.Task[None]] = {}
        self._done: set[Peer] = set()
        self._lost: set[Peer] = set()  # went away before it was done
        self._most = 0  # workers at a time
        self._refresh = plan.refresh
        self._last_word = 0.0
        self._reason = "there are none; see the Dataset's condition"

    @property
    def figures(self) -> Figures:
        return self._progress.figures

    def status(self) -> dict[str, Any]:
        return asdict(self.figures)

    async def run(self) -> Outcome:
        """Raises: CacheError: what is wrong for good, or has not become better."""
        self._last_word = self._now()
        try:
            while True:
                if await self._step():
                    break
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        request = self._plan.request
        return outcome_of(self._progress, metadata_only=request.metadata_only, dry_run=request.dry_run)

    async def _step(self) -> bool:
        """Look who is there, and have those load that have not. Return whether all is done. Raises: CacheError."""
        peers = await self._resolve()
        kinds = dict(zip(peers, await asyncio.gather(*(self._ask(peer) for peer in peers)), strict=True))
        workers = [peer for peer, kind in kinds.items() if kind is _Is.WORKER]
        self._most = max(self._most, len(workers))
        for peer in workers:
            if peer not in self._done and peer not in self._tasks:
                log.info("the cache pod at %s loads", peer)
                self._tasks[peer] = asyncio.create_task(self._load(peer))
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for peer in [peer for peer, task in self._tasks.items() if task.done()]:
            self._tasks.pop(peer).result()
        if self._tasks:
            return False
        return self._is_enough(workers, [peer for peer, kind in kinds.items() if kind is _Is.UNKNOWN])

    def _is_enough(self, workers: list[Peer], unknown: list[Peer]) -> bool:
        """Whether nobody is left who should load: nobody loads now. Raises: CacheError(UNAVAILABLE) if it is time to give up."""
        silent = self._now() - self._last_word
        if self._done and self._done.issuperset(workers):
            is_complete = len(self._done.intersection(workers)) >= self._most
            if is_complete and not unknown:
                return True
            if not self._lost.intersection(unknown) and silent > (PENDING_SECONDS if is_complete else PATIENCE_SECONDS):
                return True  # there are fewer workers than before, or pods that never come up
        if silent > PATIENCE_SECONDS:
            raise CacheError(
                ErrorKind.UNAVAILABLE, f"the Dataset's cache pods do not load, for {PATIENCE_SECONDS:g} s: {self._reason}"
            )
        return False

    async def _ask(self, peer: Peer) -> _Is:
        """Whether a pod is a worker."""
        try:
            status = json.loads(await get(peer, "/status", self._token(), ASK_SECONDS))
        except Refused as refused:
            self._reason = str(refused)
            if refused.status == _UNAUTHORIZED:
                return _Is.UNKNOWN
            with contextlib.suppress(CacheError):
                if (await get(peer, "/healthz", "", ASK_SECONDS)).strip() == "standby":
                    return _Is.NONE
            return _Is.UNKNOWN
        except (CacheError, ValueError) as error:
            self._reason = str(error)
            return _Is.UNKNOWN
        return _Is.WORKER if isinstance(status, dict) and status.get("tiers") else _Is.NONE

    async def _load(self, peer: Peer) -> None:
        """Have one pod load. Return when it has, or went away. Raises: CacheError, if there is no point in asking again."""
        body = {**self._plan.request.to_raw(), "refresh": self._refresh}
        try:
            async with contextlib.aclosing(post_lines(peer, "/warm", self._token(), body, SILENCE_SECONDS)) as answers:
                async for answer in answers:
                    self._note(peer, answer)
        except Refused as refused:
            self._reason = str(refused)
            if refused.status == _BAD_REQUEST:
                raise CacheError(ErrorKind.INVALID, f"{refused}; operator and cache pods have to be of one version") from None
            if refused.status == _TOO_MANY_REQUESTS:
                self._last_word = self._now()  # it is there, and has other loads to end first
        except CacheError as error:
            if error.kind is ErrorKind.NOT_FOUND and not self._refresh:
                log.info("%s: asking the source", error)  # it may be newer than what the cache pods know
                self._refresh = True
                return
            if error.kind in _FINAL:
                raise
            self._reason = str(error)
            self._lost.add(peer)
            self._progress.forget(str(peer))
            log.warning("%s; it is asked again", error)

    def _note(self, peer: Peer, answer: Mapping[str, Any]) -> None:
        """Raises: CacheError, if the answer is one."""
        raise_error(answer)
        self._last_word = self._now()
        self._progress.note(str(peer), answer)
        if answer.get("done"):
            self._done.add(peer)
            self._lost.discard(peer)

    def _token(self) -> str:
        try:
            with open(self._token_file, encoding="latin-1") as file:
                return file.read(4096).strip()
        except OSError as error:
            self._reason = f"the token {self._token_file} cannot be read: {error.strerror}"
            return ""

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
