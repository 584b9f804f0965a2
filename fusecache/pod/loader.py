"""Has all cache pods of a Dataset that hold tiers load what a plan says, and waits until the data is there.

State: which workers are loading. Workers that share the data load what their nodes own of it, so that it is cached once; others
load everything, and a program finds what was loaded on whichever worker it runs. A pod that goes away is waited for, under the
same address or another one, and asked again: what it has cached costs nothing. Used from one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.pod.control_client import raise_error
from fusecache.pod.http_client import Peer, Refused, post_lines
from fusecache.pod.load_plan import LoadPlan
from fusecache.pod.load_progress import Figures, LoadProgress, Outcome, outcome_of
from fusecache.pod.load_shares import LoadShares
from fusecache.pod.workers import Seen, View, Workers

log = logging.getLogger(__name__)

SILENCE_SECONDS = 90.0  # of a warm: a cache pod itself gives up on its daemon after 60 s
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 180.0  # without a word of any worker: a node that is started again is back by then
PENDING_SECONDS = 30.0  # for pods of which nothing is needed, when all others are done; a guess
_FINAL = (ErrorKind.NOT_FOUND, ErrorKind.INVALID, ErrorKind.NOT_A_DIRECTORY, ErrorKind.UNSUPPORTED)
_TOO_MANY_REQUESTS, _BAD_REQUEST = 429, 400


class Loader:
    """Call `run` once. `resolve`: where cache pods are now."""

    def __init__(self, plan: LoadPlan, token_file: str, resolve: Callable[[], Awaitable[list[Peer]]]) -> None:
        self._plan = plan
        self._workers = Workers(resolve, token_file)
        self._shares = LoadShares()
        self._progress = LoadProgress()
        self._tasks: dict[Peer, asyncio.Task[None]] = {}
        self._loading: dict[Peer, View] = {}  # what they saw when they were asked
        self._lost: set[Peer] = set()  # went away before it was done
        self._refresh = plan.refresh
        self._is_fresh: set[Peer] = set()  # has asked the source for what is new
        self._last_word = 0.0

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
            await self._stop(list(self._tasks))
        request = self._plan.request
        return outcome_of(self._progress, metadata_only=request.metadata_only, dry_run=request.dry_run)

    async def _step(self) -> bool:
        """Look who is there, and have those load that have not. Return whether all is done. Raises: CacheError."""
        seen = await self._workers.look()
        self._shares.look(seen, self._now())
        await self._stop([peer for peer in self._shares.outdated(self._loading) if not self._tasks[peer].done()])
        due = {peer: view for peer, view in self._shares.due(self._now()).items() if peer not in self._tasks}
        if due:
            self._progress.keep(str(peer) for peer in {*seen.views, *seen.unknown, *self._tasks})
        for peer, view in due.items():
            log.info("the cache pod at %s loads %s", peer, f"its part, of nodes {', '.join(view)}" if view else "everything")
            self._loading[peer] = view
            self._tasks[peer] = asyncio.create_task(self._load(peer, view))
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for peer in [peer for peer, task in self._tasks.items() if task.done()]:
            del self._loading[peer]
            self._tasks.pop(peer).result()
        return not self._tasks and self._is_enough(seen)

    async def _stop(self, peers: list[Peer]) -> None:
        """What they have loaded is theirs; the pod ends the rest when it finds nobody to tell."""
        tasks = [self._tasks.pop(peer) for peer in peers]
        for peer, task in zip(peers, tasks, strict=True):
            del self._loading[peer]
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_enough(self, seen: Seen) -> bool:
        """Whether nobody is left who should load: nobody loads now. Raises: CacheError(UNAVAILABLE) if it is time to give up."""
        silent = self._now() - self._last_word
        if self._shares.is_complete:
            if self._shares.has_everybody:
                return True
            if self._shares.is_shared:  # the others have loaded the part of who is missing
                return silent > PENDING_SECONDS
            is_lost = bool(self._lost.intersection(seen.unknown))
            if not is_lost and silent > (PATIENCE_SECONDS if self._shares.lacks_workers else PENDING_SECONDS):
                return True  # there are fewer workers than before, or pods that never come up
        if silent > PATIENCE_SECONDS:
            raise CacheError(
                ErrorKind.UNAVAILABLE,
                f"the Dataset's cache pods do not load, for {PATIENCE_SECONDS:g} s: {self._shares.lack or self._workers.reason}",
            )
        return False

    async def _load(self, peer: Peer, view: View) -> None:
        """Have one pod load. Return when it has, or went away. Raises: CacheError, if there is no point in asking again."""
        refresh = self._refresh and peer not in self._is_fresh
        body = {**self._plan.request.to_raw(), "owned": True, "refresh": refresh}
        try:
            lines = post_lines(peer, "/warm", self._workers.token(), body, SILENCE_SECONDS)
            async with contextlib.aclosing(lines) as answers:
                async for answer in answers:
                    self._note(peer, view, answer)
            self._is_fresh |= {peer} if refresh else set()
        except Refused as refused:
            self._workers.reason = str(refused)
            if refused.status == _BAD_REQUEST:
                raise CacheError(ErrorKind.INVALID, f"{refused}; operator and cache pods have to be of one version") from None
            if refused.status == _TOO_MANY_REQUESTS:
                self._last_word = self._now()  # it is there, and has other loads to end first
        except CacheError as error:
            if error.kind is ErrorKind.NOT_FOUND and not refresh and peer not in self._is_fresh:
                log.info("%s: asking the source", error)  # it may be newer than what the cache pods know
                self._refresh = True
                return
            if error.kind in _FINAL:
                raise
            self._workers.reason = str(error)
            self._lost.add(peer)
            self._progress.forget(str(peer))
            log.warning("%s; it is asked again", error)

    def _note(self, peer: Peer, view: View, answer: Mapping[str, Any]) -> None:
        """Raises: CacheError, if the answer is one."""
        raise_error(answer)
        self._last_word = self._now()
        owners = tuple(answer.get("owners", ())) if answer.get("done") else view
        self._progress.note(str(peer), answer, owners)
        if answer.get("done"):
            self._shares.note_done(peer, owners)
            self._lost.discard(peer)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
