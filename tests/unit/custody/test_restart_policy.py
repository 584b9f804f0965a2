from __future__ import annotations

import signal

import pytest

from fusecache.contract.process import ExitCode
from fusecache.custody.restart_policy import MAX_DELAY_SECONDS, Death, RestartPolicy


def death(status: int = -9, *, role: str = "serve", ready: bool = True, said_why: bool = False) -> Death:
    return Death(role, status, ready, said_why)


def test_ready_child_is_replaced_at_once_however_often() -> None:
    policy = RestartPolicy()
    assert [policy.died(death(), now / 10).delay_seconds for now in range(50)] == [0.0] * 50


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
