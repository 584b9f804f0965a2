"""Events: what the operator says on objects, and how many calls that takes when many objects have something to say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from csi.operator.app.events import LONGEST_QUIET_SECONDS, QUIET_SECONDS, REPEATS_PER_MINUTE, Events
from csi.operator.objects import Kind
from tests.support.log_check import LogCheck

LOOK_SECONDS = 60.0


class Store:
    """Stands for the API server: events by name, and the calls."""

    def __init__(self) -> None:
        self.events: dict[str, Mapping[str, Any]] = {}
        self.gets = self.applies = 0
        self.fails = False

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Mapping[str, Any] | None:
        self.gets += 1
        return self.events.get(name)

    async def apply(self, raw: Mapping[str, Any]) -> None:
        self.applies += 1
        if self.fails:
            raise ConnectionError("no route")
        self.events[raw["metadata"]["name"]] = raw


class Operator:
    def __init__(self, store: Store) -> None:
        self.now = 1000.0
        self._events = Events(store, lambda: self.now)  # type: ignore[arg-type]

    def say(self, name: str = "demo", message: str = "no key", generation: int = 1, *, is_warning: bool = False) -> None:
        asyncio.run(self.say_in_loop(name, message, generation, is_warning=is_warning))

    async def say_in_loop(self, name: str, message: str = "no key", generation: int = 1, *, is_warning: bool = False) -> None:
        metadata = {"name": name, "namespace": "here", "uid": f"u-{name}", "generation": generation}
        about = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "metadata": metadata}
        await self._events.say(about, "SecretError", message, is_warning=is_warning)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def operator(store: Store) -> Operator:
    return Operator(store)


def test_one_cause_is_one_event_that_counts(operator: Operator, store: Store) -> None:
    for elapsed in (0, 10, QUIET_SECONDS, QUIET_SECONDS, LONGEST_QUIET_SECONDS, LONGEST_QUIET_SECONDS):
        operator.now += elapsed
        operator.say()
    (event,) = store.events.values()
    assert (event["count"], event["reason"], event["type"]) == (4, "SecretError", "Normal")
    assert (store.gets, store.applies) == (1, 4), "what was said before need not be read again"


def test_a_warning_is_logged_as_one(operator: Operator, store: Store, expect_log: LogCheck) -> None:
    operator.say(is_warning=True)
    (event,) = store.events.values()
    assert event["type"] == "Warning"
    expect_log("Dataset demo: no key")


def test_another_cause_is_another_event(operator: Operator, store: Store) -> None:
    operator.say()
    operator.say(message="no Secret")
    operator.say(generation=2)
    operator.say("other")
    assert [event["count"] for event in store.events.values()] == [1] * 4


def test_the_next_operator_counts_on(operator: Operator, store: Store) -> None:
    operator.say()
    Operator(store).say()
    (event,) = store.events.values()
    assert event["count"] == 2


def test_what_could_not_be_written_is_said_at_the_next_look(operator: Operator, store: Store, expect_log: LogCheck) -> None:
    store.fails = True
    operator.say()
    assert store.events == {}
    expect_log("event SecretError on demo was not written: no route", level=logging.ERROR)
    store.fails = False
    operator.say()
    assert [event["count"] for event in store.events.values()] == [1]


def test_many_objects_take_turns(operator: Operator, store: Store) -> None:
    """Of 100 that were created together each said its own again after the same time: 172 calls in a minute."""
    names = [f"demo-{number}" for number in range(500)]
    minutes: list[int] = []

    async def run() -> None:
        for name in names:
            await operator.say_in_loop(name)
        assert store.applies == 500, "what is said for the first time waits for nothing"
        while operator.now < 1000 + QUIET_SECONDS + 2 * LONGEST_QUIET_SECONDS:
            before = store.applies
            for _ in range(int(60 / LOOK_SECONDS)):
                operator.now += LOOK_SECONDS
                for name in names:
                    await operator.say_in_loop(name)
            minutes.append(store.applies - before)

    asyncio.run(run())
    assert max(minutes) <= 2 * REPEATS_PER_MINUTE
    assert sum(minutes) <= (len(minutes) + 1) * REPEATS_PER_MINUTE
    assert min(event["count"] for event in store.events.values()) >= 2, "each has had its turn"
    assert store.gets == 500
