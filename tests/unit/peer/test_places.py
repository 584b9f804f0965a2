"""From names to addresses."""

from __future__ import annotations

import pytest

from fusecache.peer.places import find_places, split_service


def test_a_service_and_lists() -> None:
    assert split_service("demo-fuse.team.svc", 9821) == [("demo-fuse.team.svc", 9821)]
    assert split_service("a:1, b ,[::1]:2,[::2]", 3) == [("a", 1), ("b", 3), ("::1", 2), ("::2", 3)]
    assert split_service("fd00::1", 3) == [("fd00::1", 3)]


@pytest.mark.parametrize("service", ["a:0x1", ":1", "a:70000", "[::1", "[::1]2"])
def test_nonsense_is_refused(service: str) -> None:
    with pytest.raises(ValueError):
        split_service(service, 3)


def test_addresses_are_numbers() -> None:
    assert find_places("localhost:7", 1) & {("127.0.0.1", 7), ("::1", 7)}
    with pytest.raises(OSError):
        find_places("nobody.invalid", 1)
    assert find_places("nobody.invalid,127.0.0.1", 1) == {("127.0.0.1", 1)}
