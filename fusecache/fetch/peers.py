"""Other nodes, for fetch: membership, the routes to them, and what they get from here.

Owned by the cache. There is one if the mount has peers, and cannot be written: what is not in the store yet is on one node only,
and a version that was just uploaded is known there alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.mount_spec import MountSpec
from fusecache.fetch.buffer_pool import BufferPool
from fusecache.fetch.peer_provider import READERS, PeerProvider
from fusecache.fetch.peer_routes import REQUESTS, PeerRoutes
from fusecache.fetch.workers import Gate, Priority, Workers
from fusecache.peer.membership import Membership, Owners
from fusecache.peer.server import PeerServer
from fusecache.peer.wire import Card
from fusecache.tiers.tier import Tier

GREETINGS = 4  # pods that are asked at once who they are
THREADS = REQUESTS + READERS + GREETINGS  # more than a mount without peers has
MEMORY_SHARE = 4  # of the memory that may be in flight
KNOWN_WITHIN_SECONDS = 10.0


class Peers:
    """Attributes: routes, for who misses something. Call `run` once, when `provider` is set."""

    def __init__(
        self, spec: MountSpec, tiers: Sequence[Tier], workers: Workers, buffers: BufferPool, counters: CounterPage
    ) -> None:
        assert spec.peers is not None
        self._spec = spec.peers
        sizes = spec.block_size_bytes, spec.granule_size_bytes
        memory = spec.fetch_memory_bytes // MEMORY_SHARE
        owns = spec.peers.owns and any(tier.quota_bytes for tier in tiers)
        self._card = Card(spec.peers.node, owns, *sizes)
        greetings = Gate(workers, GREETINGS, memory)
        self._membership = Membership(spec.peers, self._card, lambda run: greetings.call(run, Priority.WARM))
        self.reading = Gate(workers, READERS, memory)
        self.routes = PeerRoutes(self._membership, workers, buffers, counters, *sizes, memory)
        self.provider: PeerProvider | None = None
        self.server: PeerServer | None = None

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._membership.run)
                if self._card.owns and self.provider is not None:
                    self.server = PeerServer(self._spec, self._card, self.provider)
                    nursery.start_soon(self.server.run)
        finally:
            self._membership.close()

    def tick(self) -> None:
        if self.provider is not None:
            self.provider.tick()

    def close(self) -> None:
        if self.provider is not None:
            self.provider.close()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that own blocks, as this one sees it."""
        return self._membership.nodes

    async def owners(self) -> Owners:
        """Return who owns what, once this node has looked who is there."""
        with trio.move_on_after(KNOWN_WITHIN_SECONDS):
            await self._membership.has_looked.wait()
        return self._membership.owners()
