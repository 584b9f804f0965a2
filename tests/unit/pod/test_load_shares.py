"""Who is asked to load, when, and when what was loaded is everything."""

from __future__ import annotations

from itertools import chain, combinations

from fusecache.peer.ring import Ring
from fusecache.pod.http_client import Peer
from fusecache.pod.load_shares import MOST_TIMES, SETTLE_SECONDS, LoadShares
from fusecache.pod.workers import Seen, View

A, B, C, D = (Peer(f"10.0.0.{number}", 9820) for number in range(1, 5))
AB: View = ("a", "b")
ABC: View = ("a", "b", "c")


def seen(views: dict[Peer, View], *unknown: Peer) -> Seen:
    return Seen(views, unknown)


def load(shares: LoadShares, now: float) -> dict[Peer, View]:
    """All that are due load, and are done at once."""
    due = shares.due(now)
    for worker, view in due.items():
        shares.note_done(worker, view)
    return due


def test_one_worker() -> None:
    shares = LoadShares()
    shares.look(seen({A: ("a",)}), 0)
    assert not shares.is_complete
    assert load(shares, 0) == {A: ("a",)}
    assert shares.is_complete
    assert shares.has_everybody
    assert shares.due(1) == {}


def test_workers_that_do_not_share_are_asked_at_once_and_each_when_it_comes() -> None:
    shares = LoadShares()
    shares.look(seen({A: ()}, B), 0)
    assert load(shares, 0) == {A: ()}
    assert (shares.is_complete, shares.has_everybody, shares.is_shared) == (True, False, False)
    shares.look(seen({A: (), B: ()}), 1)
    assert not shares.is_complete
    assert load(shares, 1) == {B: ()}
    assert (shares.is_complete, shares.has_everybody) == (True, True)


def test_workers_find_each_other_before_they_are_asked() -> None:
    shares = LoadShares()
    shares.look(seen({A: ("a",)}, B), 0)
    assert shares.due(0) == {}
    shares.look(seen({A: AB, B: ("b",)}), 1)
    assert shares.due(1) == {}
    shares.look(seen({A: AB, B: AB}), 2)
    assert load(shares, 2) == {A: AB, B: AB}
    assert shares.is_complete


def test_they_are_not_waited_for_for_ever() -> None:
    shares = LoadShares()
    for now in (0.0, SETTLE_SECONDS - 1):
        shares.look(seen({A: ("a",)}, B), now)
        assert shares.due(now) == {}
    shares.look(seen({A: ("a",)}, B), SETTLE_SECONDS)
    assert load(shares, SETTLE_SECONDS) == {A: ("a",)}
    assert (shares.is_complete, shares.has_everybody) == (True, False)


def test_a_worker_more_has_all_of_them_asked_again() -> None:
    shares = LoadShares()
    shares.look(seen({A: AB, B: AB}), 0)
    load(shares, 0)
    shares.look(seen({A: AB, B: AB, C: ABC}), 1)
    assert shares.due(1) == {}, "nor is it asked before the others know it"
    shares.look(seen({A: ABC, B: ABC, C: ABC}), 2)
    assert load(shares, 2) == {A: ABC, B: ABC, C: ABC}
    assert shares.is_complete


def test_who_loads_the_part_of_another_set_is_stopped_once_all_agree() -> None:
    shares = LoadShares()
    loading = {A: AB, B: AB}
    shares.look(seen({A: ABC, B: AB, C: ABC}), 0)
    assert shares.outdated(loading) == []
    shares.look(seen({A: ABC, B: ABC, C: ABC}), 1)
    assert shares.outdated(loading) == [A, B]
    shares.look(seen({A: AB, B: AB, C: ABC}), 2)
    assert shares.outdated({A: ABC, B: ABC, C: ABC}) == [], "c does not answer the others for a moment"


def test_the_part_of_who_went_is_loaded_by_the_others() -> None:
    shares = LoadShares()
    shares.look(seen({A: ABC, B: ABC, C: ABC}), 0)
    shares.note_done(A, ABC)
    shares.note_done(B, ABC)
    shares.look(seen({A: ABC, B: ABC}, C), 1)
    assert not shares.is_complete
    assert "a, b, c share the data, and 2 of them answer" in shares.lack
    shares.look(seen({A: AB, B: AB}, C), 3)
    assert shares.due(3) == {}, "it may be back in a moment"
    shares.look(seen({A: AB, B: AB}), 1 + SETTLE_SECONDS)
    assert load(shares, 1 + SETTLE_SECONDS) == {A: AB, B: AB}
    assert (shares.is_complete, shares.has_everybody, shares.lacks_workers) == (True, False, True)


def test_a_worker_that_was_replaced_is_asked_alone() -> None:
    """Its node has the same part as before, whatever its address."""
    shares = LoadShares()
    shares.look(seen({A: ABC, B: ABC, C: ABC}), 0)
    load(shares, 0)
    shares.look(seen({A: ABC, B: ABC, D: ABC}), 1)
    assert not shares.is_complete
    assert load(shares, 1) == {D: ABC}
    assert shares.is_complete


def test_who_never_agrees_is_not_asked_for_ever() -> None:
    shares = LoadShares()
    for time in range(MOST_TIMES):
        shares.look(seen({A: AB, B: ("b",)}), 100.0 * time)
        shares.look(seen({A: AB, B: ("b",)}), 100.0 * time + SETTLE_SECONDS)
        for worker in shares.due(100.0 * time + SETTLE_SECONDS):
            shares.note_done(worker, ("a",) if worker == A else AB)  # by then it saw others
    assert shares.due(1000) == {}
    assert shares.is_complete, "of two nodes that were named, two have loaded"
    shares.look(seen({A: AB, B: ("b",), C: ABC}), 1001)
    assert shares.due(1001 + SETTLE_SECONDS), "others are there, so that they may agree"


def test_whoever_comes_first_for_a_block_is_the_owner_in_its_own_eyes() -> None:
    """Why disagreement leaves nothing out: each node has another view, and sees itself."""
    nodes = "abcd"
    others = [set(chosen) for chosen in chain.from_iterable(combinations(nodes, size) for size in range(len(nodes) + 1))]
    for identity in range(200):
        first = Ring(nodes).owner(identity, 3)
        assert first is not None
        assert all(Ring({*view, first}).owner(identity, 3) == first for view in others)
