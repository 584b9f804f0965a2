"""One operator writes at a time: a Lease (coordination.k8s.io) is taken before anything starts, and renewed; who loses it ends.

State: the Lease as it was written last, and until when it is ours. Used from one event loop.

Clocks of machines are not compared: a Lease is taken over when it did not change for its duration by our own clock. The holder
counts from before it sent what renewed it, so that its time is over first.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from typing import NoReturn

from lightkube import ApiError, AsyncClient
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from csi.operator.reaching import NoteCall, note_nothing, reaching

log = logging.getLogger(__name__)

DURATION_SECONDS = 15
RENEW_SECONDS = 5.0
RETRY_SECONDS = 2.0
_NOT_FOUND, _CONFLICT = 404, 409


def _now() -> float:
    """Seconds, those in which the machine was suspended too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LostError(Exception):
    """Somebody else may be writing by now: end at once."""


class Leadership:
    """`identity`: of this process, never the same twice. Use `acquire`, then run `keep`, and `check` before each write."""

    def __init__(
        self,
        client: AsyncClient,
        namespace: str,
        name: str,
        identity: str,
        duration_seconds: float = DURATION_SECONDS,
        note: NoteCall = note_nothing,
    ) -> None:
        """`note`: is told of each call to the API server."""
        self._client = client
        self._note = note
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration_seconds
        self._lease: Lease | None = None
        self._ours_until = 0.0

    def check(self) -> None:
        """Raises LostError where our time is over: who was stopped for a while goes on where it was, maybe before a write."""
        if self._lease is None or _now() >= self._ours_until:
            raise LostError(f"the Lease {self._namespace}/{self._name} ran out: nothing may be written any more")

    async def acquire(self) -> None:
        """Return when the Lease is ours. Raises: ApiError for what asking again does not mend."""
        seen, since, holder = "", _now(), None
        while True:
            try:
                lease = await self._read()
            except OSError as error:
                log.warning("%s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if lease is None:
                if await self._create():
                    return
                continue
            assert lease.metadata is not None
            assert lease.spec is not None
            version = lease.metadata.resourceVersion or ""
            if version != seen:
                seen, since = version, _now()
                if holder != lease.spec.holderIdentity:
                    holder = lease.spec.holderIdentity
                    log.info("%s is the operator; we stand by", holder or "nobody")
            is_free = not lease.spec.holderIdentity or lease.spec.holderIdentity == self._identity
            if (is_free or _now() - since > self._duration) and await self._take(lease):
                return
            await asyncio.sleep(min(RETRY_SECONDS, self._duration / 4))

    async def keep(self) -> NoReturn:
        """Renew for ever. Raises: LostError."""
        while True:
            await asyncio.sleep(min(RENEW_SECONDS, self._duration / 3))
            assert self._lease is not None
            try:
                async with asyncio.timeout(self._duration / 3):
                    if not await self._take(self._lease):
                        raise LostError(f"the Lease {self._namespace}/{self._name} has another holder")
            except (ApiError, OSError, TimeoutError) as error:
                log.warning("the Lease was not renewed: %s", error)
                if _now() > self._ours_until - self._duration / 3:
                    raise LostError("the Lease could not be renewed in time: the API server does not answer") from error

    async def release(self) -> None:
        """Let somebody else have it at once; where that cannot be said, when it runs out."""
        if self._lease is None:
            return
        try:
            await self._write(self._lease, holder="")
        except (ApiError, OSError) as error:
            log.warning("the Lease was not given back, the next one waits until it runs out: %s", error)
        finally:
            self._lease = None

    async def _read(self) -> Lease | None:
        try:
            with reaching(self._note, "get", "leases"):
                return await self._client.get(Lease, self._name, namespace=self._namespace)
        except ApiError as error:
            if error.status.code == _NOT_FOUND:
                return None
            raise

    async def _create(self) -> bool:
        metadata = ObjectMeta(name=self._name, namespace=self._namespace)
        began = _now()
        try:
            with reaching(self._note, "create", "leases"):
                self._lease = await self._client.create(Lease(metadata=metadata, spec=self._spec(self._identity, None)))
        except ApiError as error:
            if error.status.code == _CONFLICT:
                return False
            raise
        self._ours_until = began + self._duration
        return True

    async def _take(self, lease: Lease) -> bool:
        """Write ourselves into the very version that was read; False if somebody was faster."""
        return await self._write(lease, holder=self._identity)

    async def _write(self, lease: Lease, holder: str) -> bool:
        assert lease.metadata is not None
        assert lease.spec is not None
        metadata = ObjectMeta(name=self._name, namespace=self._namespace, resourceVersion=lease.metadata.resourceVersion)
        began = _now()
        try:
            with reaching(self._note, "update", "leases"):
                self._lease = await self._client.replace(Lease(metadata=metadata, spec=self._spec(holder, lease.spec)))
        except ApiError as error:
            if error.status.code in (_CONFLICT, _NOT_FOUND):
                return False
            raise
        self._ours_until = began + self._duration
        return True

    def _spec(self, holder: str, before: LeaseSpec | None) -> LeaseSpec:
        now = datetime.datetime.now(datetime.UTC)
        is_new = before is None or before.holderIdentity != holder
        return LeaseSpec(
            holderIdentity=holder,
            leaseDurationSeconds=max(1, round(self._duration)),
            renewTime=now,
            acquireTime=now if before is None or is_new else before.acquireTime,
            leaseTransitions=(before.leaseTransitions or 0) + is_new if before else 0,
        )
