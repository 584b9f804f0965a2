from __future__ import annotations

import signal

import pytest

from fusecache.contract.process import ExitCode
from fusecache.custody.restart_policy import MAX_DELAY_SECONDS, Death, RestartPolicy


def death(status: int = -9, *, role: str = "serve", ready: bool = True, said_why: bool = False, lived: float = 60.0) -> Death:
    return Death(role, status, ready, said_why, lived)


@pytest.mark.parametrize("status", [-signal.SIGKILL, -signal.SIGTERM])
def test_ready_child_that_is_killed_is_replaced_at_once_however_often(status: int) -> None:
    policy = RestartPolicy()
    assert [policy.died(death(status, lived=0.1), now / 10).delay_seconds for now in range(50)] == [0.0] * 50


def test_child_that_crashes_soon_after_it_was_ready_is_replaced_ever_later() -> None:
    policy = RestartPolicy()
    decisions = [policy.died(death(1, lived=0.01), now / 10) for now in range(50)]
    delays = [decision.delay_seconds for decision in decisions]
    assert delays[:3] == [0.0] * 3
    assert 0.0 < delays[3] < delays[4]
    assert delays[-1] == MAX_DELAY_SECONDS
    assert [decision.is_first_wait for decision in decisions].count(True) == 1


def test_a_long_life_is_a_new_start() -> None:
    policy = RestartPolicy()
    for _ in range(10):
        policy.died(death(1, lived=0.01), 0.0)
    assert policy.died(death(1, lived=5.0), 0.0).delay_seconds == 0.0
    assert policy.died(death(1, lived=0.01), 0.0).delay_seconds == 0.0


def test_child_that_never_becomes_ready_is_tried_ever_later() -> None:
    policy = RestartPolicy()
    delays = [policy.died(death(1, ready=False), 0.0).delay_seconds for _ in range(2000)]
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY_SECONDS
    policy.became_ready("serve")
    assert policy.died(death(1, ready=False), 0.0).delay_seconds == 0.0


def test_roles_are_counted_apart() -> None:
    policy = RestartPolicy()
    for _ in range(5):
        policy.died(death(1, ready=False), 0.0)
    assert policy.died(death(1, role="fetch", ready=False), 0.0).delay_seconds == 0.0


def test_child_that_said_why_is_tried_again_after_a_second() -> None:
    assert RestartPolicy().died(death(1, said_why=True), 0.0).delay_seconds == 1.0


def test_exit_status_of_a_damaged_index_rebuilds_at_once() -> None:
    assert RestartPolicy().died(death(ExitCode.INDEX_DAMAGED, ready=False), 0.0).rebuild_index


@pytest.mark.parametrize(("times", "rebuilds"), [((0.0, 5.0, 10.0), True), ((0.0, 5.0, 10.1), False)])
def test_three_memory_faults_within_ten_seconds_rebuild(times: tuple[float, ...], rebuilds: bool) -> None:
    policy = RestartPolicy()
    numbers = (signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT)
    decisions = [policy.died(death(-number), now).rebuild_index for number, now in zip(numbers, times, strict=True)]
    assert decisions == [False, False, rebuilds]
    assert not policy.died(death(-signal.SIGBUS), times[-1] + 11).rebuild_index


def test_kills_are_no_damage() -> None:
    policy = RestartPolicy()
    assert not any(policy.died(death(-signal.SIGKILL), 0.0).rebuild_index for _ in range(10))
