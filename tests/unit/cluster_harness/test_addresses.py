"""A cluster takes no network that the machine has a way to already."""

from __future__ import annotations

import ipaddress
import threading
import time
from pathlib import Path

import pytest

from tests.cluster_harness import addresses
from tests.cluster_harness.addresses import BLOCKS, Addresses, is_free


@pytest.mark.parametrize(
    ("route", "free"),
    [
        ("192.168.0.0/16", True),
        ("10.211.255.0/24", True),
        ("10.215.0.0/16", True),
        ("10.212.0.1/32", False),
        ("10.213.7.0/24", False),
        ("10.214.0.0/16", False),
        ("10.0.0.0/8", False),
    ],
)
def test_a_plan_is_free_if_no_route_overlaps_it(route: str, free: bool) -> None:
    assert is_free(Addresses(212), [ipaddress.IPv4Network(route)]) == free


def test_no_two_plans_overlap() -> None:
    for block in BLOCKS:
        plan = Addresses(block)
        others = [Addresses(other) for other in BLOCKS if other != block]
        taken = [ipaddress.IPv4Network(text) for other in others for text in (other.nodes, other.pods, other.services)]
        assert is_free(plan, taken)


def test_every_address_is_in_its_network() -> None:
    plan = Addresses(212)
    nodes, pods, services = (ipaddress.IPv4Network(text) for text in (plan.nodes, plan.pods, plan.services))
    assert all(ipaddress.IPv4Address(text) in nodes for text in (plan.machine, plan.control_plane, plan.node(1), plan.node(3)))
    assert all(ipaddress.IPv4Network(plan.node_pods(number)).subnet_of(pods) for number in (1, 3))
    assert all(ipaddress.IPv4Address(text) in services for text in (plan.api_service, plan.dns_service))


def test_two_boots_in_the_same_moment_choose_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both had found the same block free, and one of them failed at the bridge."""
    monkeypatch.setattr(addresses, "LOCK", str(tmp_path / "lock"))
    taken: list[int] = []
    monkeypatch.setattr(addresses, "choose", lambda: Addresses(next(block for block in BLOCKS if block not in taken)))

    def boot() -> None:
        with addresses.chosen() as plan:
            time.sleep(0.05)
            taken.append(plan.block)

    threads = [threading.Thread(target=boot) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert taken == list(BLOCKS[:3])
