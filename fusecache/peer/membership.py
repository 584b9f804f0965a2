"""Which other nodes take part, as far as this one sees.

Every few seconds the Dataset's Service is resolved and whoever is there is asked who it is. Nobody is told, and nodes need not
agree: who has another view asks another owner, or the store, and gets the same bytes. State: a link to each pod that owns
blocks. Runs in fetch's event loop; what blocks goes to threads.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fusecache.contract.mount_spec import PeersSpec
from fusecache.peer.client import PeerLink, introduce
from fusecache.peer.errors import PeerFault
from fusecache.peer.places import Place, find_places
from fusecache.peer.ring import Ring, group_of
from fusecache.peer.wire import Card

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # from one look at all pods to the next; 20 ms more for each pod, as each is greeted
FIRST_LOOKS_SECONDS = 0.5  # pods of a Dataset are started together
FIRST_SECONDS = 15.0
LEFT_ALONE_SECONDS = 5.0  # after a fault; twice as long after each one that follows, until something worked
MOST_DOUBLINGS = 4
MAX_FAILURES = 2  # greetings in a row that a pod may fail to answer; the first request that fails ends its part at once

Call = Callable[[Callable[[], Any]], Awaitable[Any]]  # runs something that blocks in a thread


class Owners:
    """Who owned what at a moment. Invariant: each group has one owner."""

    def __init__(self, own: Card, others: list[str]) -> None:
        self._own = own.node
        self._ring = Ring([*others, own.node] if own.owns else others)

    @property
    def nodes(self) -> tuple[str, ...]:
        return self._ring.nodes

    def owner(self, identity: int, block: int) -> str | None:
        """Return the other node that owns a block; None: this one does, or nobody."""
        name = self._ring.owner(identity, group_of(block))
        return None if name == self._own else name

    def has_copy(self, identity: int, block: int, copies: int) -> bool:
        """Whether this node is among those that keep a block, if so many of them do."""
        if copies == 1 or not self._ring.nodes:
            return self.owner(identity, block) is None
        return self._own in self._ring.first(identity, group_of(block), copies)


class Membership:
    def __init__(
        self,
        spec: PeersSpec,
        own: Card,
        call: Call,
        find: Callable[[str, int], set[Place]] = find_places,
        greet: Callable[[Place, str], Card] = introduce,
    ) -> None:
        """`find` and `greet` block, and are called through `call`."""
        self._find = find
        self._introduce = greet
        self._spec = spec
        self._own = own
        self._call = call
        self._places: set[Place] = set()
        self._links: dict[str, PeerLink] = {}  # by node
        self._failures: dict[Place, int] = {}
        self._left_alone: dict[Place, float] = {}  # until when
        self._faults: dict[str, int] = {}  # by node, since something worked
        self._refused: set[Card] = set()
        self._owners = Owners(own, [])
        self.has_looked = trio.Event()

    async def run(self) -> None:
        began = trio.current_time()
        while True:
            await self.look()
            self.has_looked.set()
            is_young = trio.current_time() - began < FIRST_SECONDS
            await trio.sleep(FIRST_LOOKS_SECONDS if is_young else LOOK_SECONDS + 0.02 * len(self._places))

    # -- questions

    def owners(self) -> Owners:
        """Return how it is now: those that failed a moment ago take no part."""
        if any(not link.is_usable for link in self._links.values()):
            self._drop_faulty()
        return self._owners

    def link(self, identity: int, block: int) -> PeerLink | None:
        """Return the pod to ask for a block; None: this node has to ask the store."""
        name = self.owners().owner(identity, block)
        return None if name is None else self._links[name]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that own blocks, this one as well."""
        return self.owners().nodes

    # -- looking

    async def look(self) -> None:
        """Resolve, greet everybody, and take what that says as the truth."""
        try:
            self._places = await self._call(lambda: self._find(self._spec.service, self._spec.port))
        except (OSError, ValueError) as error:
            log.debug("cache pods of other nodes cannot be found: %s", error)
        now = trio.current_time()
        self._left_alone = {place: until for place, until in self._left_alone.items() if until > now}
        cards: dict[Place, Card] = {}
        async with trio.open_nursery() as nursery:
            for place in self._places - set(self._left_alone):
                nursery.start_soon(self._greet, place, cards)
        self._failures = {place: count for place, count in self._failures.items() if place in self._places}
        self._take(cards)

    async def _greet(self, place: Place, cards: dict[Place, Card]) -> None:
        try:
            cards[place] = await self._call(lambda: self._introduce(place, self._spec.token_file))
            self._failures.pop(place, None)
        except PeerFault as error:
            log.debug("%s", error)
            self._failures[place] = self._failures.get(place, 0) + 1

    def _take(self, cards: dict[Place, Card]) -> None:
        links: dict[str, PeerLink] = {}
        self._drop_faulty()
        for place, card in sorted(cards.items()):
            if card.node == self._own.node or not card.owns or not self._fits(card) or place in self._left_alone:
                continue
            known = self._links.get(card.node)
            if known is not None and known.card == card and known.place == place:
                links[card.node] = known
            elif known is None or known.place not in cards:  # else the one that we know is there as well
                links[card.node] = PeerLink(card, place, self._spec.token_file)
        for node, known in self._links.items():  # one that missed a greeting may be busy
            failures = self._failures.get(known.place, 0)
            if node not in links and known.place in self._places and 0 < failures < MAX_FAILURES:
                links[node] = known
        self._set(links)

    def _fits(self, card: Card) -> bool:
        is_fit = (card.block_size, card.granule_size) == (self._own.block_size, self._own.granule_size)
        if not is_fit and card not in self._refused:
            self._refused.add(card)
            log.info("node %s has blocks of another size: it is not asked for any", card.node)
        return is_fit

    def _drop_faulty(self) -> None:
        faulty = [link for link in self._links.values() if not link.is_usable]
        for link in faulty:
            faults = self._faults[link.card.node] = 0 if link.has_worked else self._faults.get(link.card.node, -1) + 1
            self._left_alone[link.place] = trio.current_time() + LEFT_ALONE_SECONDS * 2 ** min(faults, MOST_DOUBLINGS)
        if faulty:
            self._set({node: link for node, link in self._links.items() if link.is_usable})

    def _set(self, links: dict[str, PeerLink]) -> None:
        for link in self._links.values():
            if links.get(link.card.node) is not link:
                link.close()
        if set(links) != set(self._links):
            log.info("nodes that share this Dataset's cache with %s: %s", self._own.node, ", ".join(sorted(links)) or "none")
            self._owners = Owners(self._own, list(links))
        self._links = links

    def close(self) -> None:
        self._set({})
