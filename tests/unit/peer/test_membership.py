"""Who takes part, as one node sees it: over a network that is a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from fusecache.contract.mount_spec import PeersSpec
from fusecache.peer.errors import PeerFault
from fusecache.peer.membership import LEFT_ALONE_SECONDS, LOOK_SECONDS, Membership
from fusecache.peer.places import Place
from fusecache.peer.ring import GROUP_BLOCKS
from fusecache.peer.wire import Card

OWN = Card("a", True, 1 << 20, 1 << 17)


class Network:
    """Attributes: pods, by place; None: nobody answers there. `is_resolved`: the names are known now."""

    def __init__(self) -> None:
        self.pods: dict[Place, Card | None] = {place("a"): OWN, place("b"): card("b"), place("c"): card("c")}
        self.is_resolved = True
        self.greeted: list[Place] = []

    def find(self, service: str, port: int) -> set[Place]:
        assert (service, port) == ("demo-fuse.team.svc", 9821)
        if not self.is_resolved:
            raise OSError("no such name")
        return set(self.pods)

    def greet(self, there: Place, token_file: str) -> Card:
        self.greeted.append(there)
        found = self.pods[there]
        if found is None:
            raise PeerFault("nobody answers")
        return found


def place(node: str) -> Place:
    return (f"address of {node}", 9821)


def card(node: str, **more: Any) -> Card:
    return OWN._replace(node=node, **more)


async def call(run: Callable[[], Any]) -> Any:
    await trio.lowlevel.checkpoint()
    return run()


def check(body: Callable[[Network, Membership], Any], own: Card = OWN) -> None:
    async def run() -> None:
        network = Network()
        spec = PeersSpec("demo-fuse.team.svc", 9821, own.node, "token")
        membership = Membership(spec, own, call, network.find, network.greet)
        await membership.look()
        await body(network, membership)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def owners_of(membership: Membership) -> set[str]:
    links = [membership.link(identity, 0) for identity in range(200)]
    return {"a" if link is None else link.card.node for link in links}


def test_everybody_who_has_tiers_owns_something() -> None:
    async def body(network: Network, membership: Membership) -> None:
        assert membership.nodes == ("a", "b", "c")
        assert owners_of(membership) == {"a", "b", "c"}
        network.pods[place("d")] = card("d", owns=False)
        network.pods[place("e")] = card("e", block_size=1 << 21)
        network.pods[place("f")] = card("f", granule_size=1 << 16)
        await membership.look()
        assert membership.nodes == ("a", "b", "c")

    check(body)


def test_a_node_without_tiers_owns_nothing_and_asks_the_others() -> None:
    async def body(network: Network, membership: Membership) -> None:
        assert membership.nodes == ("b", "c")
        links = [membership.link(identity, 0) for identity in range(200)]
        assert {link.card.node if link else None for link in links} == {"b", "c"}

    check(body, card("a", owns=False))


def test_groups_have_one_owner() -> None:
    async def body(network: Network, membership: Membership) -> None:
        for identity in range(20):
            assert len({membership.link(identity, block) for block in range(GROUP_BLOCKS)}) == 1

    check(body)


def test_a_fault_ends_its_part_at_once_and_for_longer_each_time() -> None:
    async def body(network: Network, membership: Membership) -> None:
        for doublings in (0, 1, 2, 3, 4, 4):
            (link,) = {link for link in (membership.link(one, 0) for one in range(200)) if link and link.card.node == "b"}
            link.is_usable = False
            assert membership.nodes == ("a", "c")
            assert owners_of(membership) == {"a", "c"}
            await trio.sleep(LEFT_ALONE_SECONDS * 2**doublings - 0.5)
            network.greeted.clear()
            await membership.look()
            assert membership.nodes == ("a", "c")
            assert place("b") not in network.greeted
            await trio.sleep(1)
            await membership.look()
            assert membership.nodes == ("a", "b", "c")
        (link,) = {link for link in (membership.link(one, 0) for one in range(200)) if link and link.card.node == "b"}
        link.has_worked, link.is_usable = True, False
        assert membership.nodes == ("a", "c")
        await trio.sleep(LEFT_ALONE_SECONDS + 0.5)
        await membership.look()
        assert membership.nodes == ("a", "b", "c"), "what worked in between is forgiven"

    check(body)


def test_one_missed_greeting_is_forgiven_two_are_not() -> None:
    async def body(network: Network, membership: Membership) -> None:
        network.pods[place("b")] = None
        await membership.look()
        assert membership.nodes == ("a", "b", "c")
        await membership.look()
        assert membership.nodes == ("a", "c")
        network.pods[place("b")] = card("b")
        await membership.look()
        assert membership.nodes == ("a", "b", "c")

    check(body)


def test_a_pod_that_is_gone_from_the_service_is_gone() -> None:
    async def body(network: Network, membership: Membership) -> None:
        del network.pods[place("b")]
        await membership.look()
        assert membership.nodes == ("a", "c")

    check(body)


def test_without_names_all_stays_as_it_was() -> None:
    async def body(network: Network, membership: Membership) -> None:
        network.is_resolved = False
        await membership.look()
        assert membership.nodes == ("a", "b", "c")

    check(body)


def test_a_node_whose_pod_was_replaced_keeps_its_share() -> None:
    async def body(network: Network, membership: Membership) -> None:
        before = [membership.link(identity, 0) for identity in range(100)]
        network.pods[("another address", 9821)] = card("b")  # both are there for a moment
        await membership.look()
        assert [membership.link(identity, 0) for identity in range(100)] == before
        del network.pods[place("b")]
        await membership.look()
        after = [membership.link(identity, 0) for identity in range(100)]
        assert [link and link.card for link in after] == [link and link.card for link in before]
        assert {link.place for link in after if link and link.card.node == "b"} == {("another address", 9821)}

    check(body)


def test_it_looks_again_and_again() -> None:
    async def body(network: Network, membership: Membership) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(membership.run)
            await membership.has_looked.wait()
            await trio.sleep(30)
            del network.pods[place("c")]
            await trio.sleep(LOOK_SECONDS + 1)
            assert membership.nodes == ("a", "b")
            nursery.cancel_scope.cancel()
        membership.close()

    check(body)
