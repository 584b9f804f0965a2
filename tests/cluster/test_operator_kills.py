"""The operator killed at every change it asks for, before it is made or before it hears of it: all is as without (figure 28)."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_loads import bind, data_load, end_job
from tests.cluster.test_operator import IMAGE, gone, web
from tests.support.api_proxy import ApiProxy
from tests.support.cluster_picture import Picture, picture
from tests.support.definitions import apply_definitions
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.operator_kills import KillAt
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(3600)]

BASE = "base"  # a Dataset that is there all the time
STEP_SECONDS = 45.0
REST_SECONDS = 4.0  # without a change: longer than a new Dataset's pause between two looks
NEVER = 10**6

Step = tuple[Callable[[Kubectl, str], None], Callable[[Kubectl, str], bool]]  # what the user does, until what is so


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepared`: what is there before anybody is killed. The last step of all is `is_over`."""

    name: str
    prepared: Sequence[Step]
    steps: Sequence[Step]


def create(objects: Callable[[str], list[dict[str, Any]]]) -> Callable[[Kubectl, str], None]:
    return lambda kubectl, name: kubectl.create(objects(name))


def delete(kind: str) -> Callable[[Kubectl, str], None]:
    def act(kubectl: Kubectl, name: str) -> None:
        kubectl("delete", kind, name, "--wait=false", "--ignore-not-found")

    return act


def reference(name: str) -> list[dict[str, Any]]:
    mounts = [{"mountPoint": f"dataset://NAMESPACE/{BASE}"}]
    return [{"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "metadata": {"name": name}, "spec": {"mounts": mounts}}]


def create_reference(kubectl: Kubectl, name: str) -> None:
    text = json.dumps(reference(name)).replace("NAMESPACE", kubectl.namespace)
    kubectl.create(json.loads(text))


def is_made(kubectl: Kubectl, name: str) -> bool:
    """All that a Dataset and its runtime become, while nobody serves it."""
    if gone(kubectl, "daemonset", f"{name}-fuse") or gone(kubectl, "pvc", name):
        return False
    runtime = kubectl.get("alluxioruntime", name)
    return bool(runtime.get("status", {}).get("masterPhase")) and kubectl.get("dataset", name)["status"]["phase"] == "NotBound"


def phase(kind: str, wanted: str) -> Callable[[Kubectl, str], bool]:
    return lambda kubectl, name: kubectl.get(kind, name).get("status", {}).get("phase") == wanted


def is_gone(*kinds: str) -> Callable[[Kubectl, str], bool]:
    return lambda kubectl, name: all(gone(kubectl, kind, name) for kind in kinds)


def is_retired(kubectl: Kubectl, name: str) -> bool:
    return gone(kubectl, "daemonset", f"{name}-fuse") and gone(kubectl, "pvc", name) and gone(kubectl, "alluxioruntime", name)


MADE: Step = (create(web), is_made)
LOADED: Step = (create(lambda name: [data_load(name, BASE)]), phase("dataload", "Executing"))
REFERRED: Step = (create_reference, phase("dataset", "Bound"))
ENDED: Step = (lambda kubectl, name: end_job(kubectl, f"{name}-loader-job"), phase("dataload", "Complete"))
SCENARIOS = [
    Scenario("a Dataset with a runtime is made", [], [MADE]),
    Scenario("a reference is made", [], [REFERRED]),
    Scenario("a DataLoad runs and ends", [], [LOADED, ENDED]),
    Scenario("a DataLoad is deleted while it runs", [LOADED], [(delete("dataload"), is_gone("dataload"))]),
    Scenario("a runtime is deleted", [MADE], [(delete("alluxioruntime"), is_retired)]),
    Scenario("a reference is deleted", [REFERRED], [(delete("dataset"), is_gone("dataset", "thinruntime", "pvc"))]),
    Scenario("a Dataset is deleted", [MADE], [(delete("dataset"), is_gone("dataset", "alluxioruntime", "pvc"))]),
]


IN_EACH_RUN = SCENARIOS[:3]


class Killing:
    """Plays scenarios, each under a name of its own, with the operator killed at one change or not at all."""

    def __init__(self, operator: OperatorProcess, proxy: ApiProxy, kubectl: Kubectl) -> None:
        self._operator = operator
        self._proxy = proxy
        self._kubectl = kubectl
        self._numbers = itertools.count(1)

    def play(self, scenario: Scenario, number: int, wanted: Picture, *, answer_is_lost: bool) -> KillAt:
        """Raises: AssertionError if it does not come out as wanted; {}: whatever comes out is."""
        name = f"x{next(self._numbers):03d}"
        for act, is_done in scenario.prepared:
            act(self._kubectl, name)
            assert wait_until(lambda done=is_done: done(self._kubectl, name), STEP_SECONDS, 0.3), f"{scenario.name}: preparing"
        self.wait_rest()
        began = time.monotonic()
        kill = KillAt(self._operator, self._proxy, number, answer_is_lost=answer_is_lost)
        for act, is_done in scenario.steps:
            act(self._kubectl, name)
            self._wait(kill, lambda done=is_done: done(self._kubectl, name), scenario)
        if not wanted:
            self.wait_rest()
            wanted.update(picture(self._kubectl, name))
            kill.disarm()
        else:
            self._wait(kill, lambda: picture(self._kubectl, name) == wanted, scenario)
            if kill.victim is None:  # what comes late is a change, too
                self.wait_rest()
            kill.disarm()
            kill.revive(self._kubectl)  # it may have been killed while we looked, and saw nothing amiss
            self._wait(kill, lambda: picture(self._kubectl, name) == wanted, scenario)
        made = [call for call in self._proxy.changes(began) if f"/jobs/{name}-" in call.path and call.status == 201]
        assert len(made) == any(step is LOADED for step in scenario.steps), f"Jobs that were made: {[str(call) for call in made]}"
        self._clean(name)
        return kill

    def _wait(self, kill: KillAt, is_so: Callable[[], bool], scenario: Scenario) -> None:
        def holds() -> bool:
            kill.revive(self._kubectl)
            return is_so()

        assert wait_until(holds, STEP_SECONDS, 0.3), f"{scenario.name}, killed at {kill.count}: {kill.victim}"

    def wait_rest(self) -> None:
        """Wait until the operator changes nothing any more."""

        def rests() -> bool:
            return not self._proxy.changes(time.monotonic() - REST_SECONDS)

        assert wait_until(rests, STEP_SECONDS, 0.3), [str(call) for call in self._proxy.changes(time.monotonic() - REST_SECONDS)]

    def _clean(self, name: str) -> None:
        """No finalizer is in the way of anything."""
        for kind in ("dataload", "dataset"):
            self._kubectl("delete", kind, name, "--ignore-not-found", "--wait=true", timeout_seconds=60)
        kinds = ("alluxioruntime", "thinruntime", "pvc")
        assert wait_until(lambda: all(gone(self._kubectl, kind, name) for kind in kinds), STEP_SECONDS, 0.3), name
        for kind in ("daemonset", "job"):
            names = {"daemonset": f"{name}-fuse", "job": f"{name}-loader-job"}
            assert wait_until(lambda kind=kind, names=names: gone(self._kubectl, kind, names[kind]), STEP_SECONDS, 0.3), kind


@pytest.fixture(scope="module")
def definitions(kubeconfig: Path) -> None:
    apply_definitions(Kubectl(kubeconfig))


@pytest.fixture
def killing(definitions: None, kubeconfig: Path, namespace: Kubectl, tmp_path: Path) -> Iterator[Killing]:
    with ApiProxy(kubeconfig, tmp_path) as proxy:
        operator = OperatorProcess(proxy.write_kubeconfig(), namespace.namespace, tmp_path / "log", image=IMAGE)
        with operator:
            namespace.create(web(BASE))
            bind(namespace, BASE)
            yield Killing(operator, proxy, namespace)
            for kind in ("dataloads", "datasets"):
                namespace("delete", kind, "--all", "--wait=true", timeout_seconds=60)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_the_operator_is_killed_at_a_change(
    killing: Killing, scenario: Scenario, full_length: bool, promise: Callable[[str, str, str, str], None]
) -> None:
    """In full: at each change until there is none any more. Else at one in the middle, of which the answer is lost, in three
    scenarios: one takes 20 s."""
    if not full_length and scenario not in IN_EACH_RUN:
        pytest.skip("runs with --full-length")
    wanted: Picture = {}
    undisturbed = killing.play(scenario, NEVER, wanted, answer_is_lost=False)
    assert undisturbed.victim is None
    assert undisturbed.count, "nothing was changed"
    kills = 0
    if not full_length:
        kill = killing.play(scenario, (undisturbed.count + 1) // 2, wanted, answer_is_lost=True)
        assert kill.victim is not None
        kills = 1
    for answer_is_lost in (False, True) if full_length else ():
        for number in itertools.count(1):
            kill = killing.play(scenario, number, wanted, answer_is_lost=answer_is_lost)
            if kill.victim is None:
                assert number > undisturbed.count / 2, "hardly anything was changed"
                break
            kills += 1
    letter = chr(ord("a") + SCENARIOS.index(scenario))
    counted = f"{kills} kills, at up to {undisturbed.count} changes: 0 stuck, 0 orphans, 0 Jobs made twice"
    promise(f"28{letter}", f"operator killed at each change, {scenario.name}", counted, "ends as without a kill")
