"""Eviction policies on traces whose answer is known, and our own eviction on a short one."""

from __future__ import annotations

import random

import pytest

from tests.bench import hit_ratios, records
from tests.bench.eviction_policies import POLICIES, Policy, arc, belady, lru, s3_fifo, sieve
from tests.bench.results import Table
from tests.bench.settings import Settings


@pytest.mark.parametrize("policy", [*POLICIES.values(), belady])
def test_what_fits_is_missed_once(policy: Policy) -> None:
    trace = [1, 2, 3] * 10
    assert policy(trace, 3) == [False] * 3 + [True] * 27


@pytest.mark.parametrize("policy", list(POLICIES.values()))
def test_nobody_is_better_than_who_knows_the_future(policy: Policy) -> None:
    source = random.Random(1)
    trace = [min(source.randrange(60), source.randrange(60)) for _ in range(3000)]
    assert 0 < sum(policy(trace, 20)) < sum(belady(trace, 20))


def test_a_scan_costs_lru_everything_and_the_others_little() -> None:
    trace = [*[1, 2, 3, 4] * 5, *range(100, 120), *[1, 2, 3, 4]]
    assert sum(lru(trace, 10)[-4:]) == 0
    assert [sum(policy(trace, 10)[-4:]) for policy in (sieve, s3_fifo, arc)] == [4, 4, 4]


def test_our_own_eviction_keeps_what_is_read() -> None:
    trace = [*[1, 2, 3, 4] * 5, *range(100, 120), *[1, 2, 3, 4]]
    assert sum(hit_ratios.run_ours(trace, 10)[-4:]) == 4


def test_the_records_take_the_ratios() -> None:
    ratios = {"epochs": {"fusecache": 0.5}, "zipf": {"fusecache": 0.5, "LRU": 0.4, "SIEVE": 0.51, "S3-FIFO": 0.52, "ARC": 0.4}}
    settings = Settings(big_bytes=1, files=1, rounds=1, contenders=(), columns=())
    judged = [one for one in records.judge(Table([], ratios), settings) if one.record.row == 17]
    assert [one.verdict for one in judged] == ["yes", "yes", "not in this run"]
