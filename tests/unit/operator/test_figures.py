"""What daemons say, added up, and printed as the articles show it."""

from __future__ import annotations

from typing import Any

from csi.operator.figures import Figures, add_up, cache_states, file_count, ufs_total

GIB = 1 << 30


def status(**more: Any) -> dict[str, Any]:
    nothing = {"files": 0, "total_bytes": 0, "cached_bytes": 0, "hit_bytes": 0, "miss_bytes": 0}
    return {**nothing, "listing_complete": True, "last_error": "", **more}


def test_the_article_of_the_spark_mirror() -> None:
    """3.41GiB, 1.31GiB of it loaded, 4Gi of cache: 38.4%."""
    figures = add_up([status(files=20, total_bytes=round(3.41 * GIB), cached_bytes=round(1.31 * GIB))])
    assert ufs_total(figures, lists_everything=True) == "3.41GiB"
    assert file_count(figures, lists_everything=True) == "20"
    states = cache_states(figures, 4 * GIB, lists_everything=True)
    assert states == {"cached": "1.31GiB", "cacheCapacity": "4.00GiB", "cachedPercentage": "38.4%"}


def test_before_anything_is_known() -> None:
    empty = add_up([])
    assert empty == Figures()
    assert ufs_total(empty, lists_everything=True) == "[Calculating]"
    assert cache_states(empty, 4 * GIB, lists_everything=True) == {"cached": "0.00B", "cacheCapacity": "4.00GiB"}


def test_what_is_not_listed_is_not_said() -> None:
    figures = add_up([status(files=3, total_bytes=10, cached_bytes=5)])
    assert (ufs_total(figures, lists_everything=False), file_count(figures, lists_everything=False)) == ("", "")
    assert "cachedPercentage" not in cache_states(figures, 0, lists_everything=False)


def test_what_nodes_keep_that_only_mount_is_not_counted() -> None:
    others = [status(files=9, total_bytes=90, cached_bytes=50, hit_bytes=5, miss_bytes=15)]
    figures = add_up([status(files=9, total_bytes=90, cached_bytes=60, hit_bytes=30, miss_bytes=10)], others)
    assert (figures.cached_bytes, figures.hit_bytes, figures.miss_bytes, figures.answered) == (60, 35, 25, 2)
    assert add_up([], others).is_listed


def test_several_nodes() -> None:
    listing = status(files=9, total_bytes=90, listing_complete=False, cached_bytes=60, hit_bytes=30, miss_bytes=10)
    figures = add_up([listing, status(files=8, total_bytes=80, cached_bytes=60, last_error="denied")])
    assert (figures.answered, figures.is_listed, figures.total_bytes, figures.files) == (2, True, 80, 8)
    assert figures.last_error == "denied"
    states = cache_states(figures, 200, lists_everything=True)
    assert states["cached"] == "120.00B"
    assert states["cachedPercentage"] == "100.0%", "copies on two nodes are no more than everything"
    assert (states["cacheHitRatio"], states["remoteHitRatio"]) == ("75.0%", "0.0%")


def test_hits_of_other_nodes_are_remote_hits() -> None:
    figures = add_up([status(hit_bytes=50, miss_bytes=50, peer_hit_bytes=20), status()])
    states = cache_states(figures, 0, lists_everything=True)
    names = ("cacheHitRatio", "localHitRatio", "remoteHitRatio", "remoteThroughputRatio")
    assert [states[name] for name in names] == ["70.0%", "50.0%", "20.0%", "20.0%"]
    ahead = cache_states(add_up([status(hit_bytes=90, miss_bytes=10, peer_hit_bytes=80)]), 0, lists_everything=True)
    assert (ahead["cacheHitRatio"], ahead["remoteHitRatio"]) == ("100.0%", "10.0%"), "no more than was missed"


def test_an_empty_dataset() -> None:
    states = cache_states(add_up([status()]), GIB, lists_everything=True)
    assert states["cached"] == "0.00B"
    assert states["cachedPercentage"] in ("0.0%", "100.0%")
