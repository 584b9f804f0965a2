"""Rendezvous hashing: who owns what, and what moves when nodes come and go."""

from __future__ import annotations

import collections

from hypothesis import given
from hypothesis import strategies as st

from fusecache.peer.ring import GROUP_BLOCKS, Ring, group_of

names = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=8)
identities = st.integers(0, (1 << 64) - 1)
GROUPS = range(20)


@given(names, identities)
def test_everybody_agrees_whatever_the_order(nodes: set[str], identity: int) -> None:
    ring, other = Ring(sorted(nodes)), Ring(sorted(nodes, reverse=True))
    assert [ring.owner(identity, group) for group in GROUPS] == [other.owner(identity, group) for group in GROUPS]
    assert all(ring.owner(identity, group) in nodes for group in GROUPS)


@given(names, identities)
def test_a_node_that_goes_takes_its_share_alone(nodes: set[str], identity: int) -> None:
    before = Ring(nodes)
    for gone in nodes:
        after = Ring(nodes - {gone})
        for group in GROUPS:
            owner = before.owner(identity, group)
            if owner != gone:
                assert after.owner(identity, group) == owner


@given(names, identities, st.integers(1, 9))
def test_who_would_be_next_owns_it_when_the_first_ones_go(nodes: set[str], identity: int, count: int) -> None:
    for group in GROUPS:
        first = Ring(nodes).first(identity, group, count)
        assert len(first) == min(count, len(nodes))
        left = set(nodes)
        for name in first:
            assert Ring(left).owner(identity, group) == name
            left.discard(name)


@given(names, st.text(min_size=1, max_size=8), identities)
def test_a_node_that_comes_takes_from_others_and_moves_nothing_among_them(nodes: set[str], new: str, identity: int) -> None:
    before, after = Ring(nodes), Ring(nodes | {new})
    assert all(after.owner(identity, group) in (before.owner(identity, group), new) for group in GROUPS)


def test_shares_are_about_equal() -> None:
    nodes = [f"node-{number}" for number in range(10)]
    ring = Ring(nodes)
    shares = collections.Counter(ring.owner(identity * 0x9E3779B97F4A7C15 % (1 << 64), 0) for identity in range(10_000))
    shares.update(ring.owner(7, group) for group in range(10_000))
    assert min(shares[node] for node in nodes) > 1800
    assert max(shares.values()) < 2200


def test_the_share_of_a_lost_node_goes_to_all_others() -> None:
    ring, after = Ring("abcde"), Ring("abcd")
    heirs = collections.Counter(after.owner(1, group) for group in range(5000) if ring.owner(1, group) == "e")
    assert set(heirs) == set("abcd")
    assert max(heirs.values()) < 1.4 * min(heirs.values())


def test_nobody_owns_where_nobody_is() -> None:
    assert Ring(()).owner(1, 1) is None


def test_groups() -> None:
    assert [group_of(block) for block in (0, GROUP_BLOCKS - 1, GROUP_BLOCKS)] == [0, 0, 1]
