"""Everything of ours is replaced or killed while pods read: nothing fails (figures K4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, keys, runtime, s3_mount
from tests.support.installation import NAMESPACE, Installation
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.pod_readers import PodReaders, Summary, put_files
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import shows
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

LONGEST_SECONDS = 2.0
READ_SECONDS = 3.0  # after each change

Promise = Callable[[str, str, str, str], None]


@dataclass(frozen=True, slots=True)
class Reading:
    """Pods that read one Dataset on two nodes; one of them caches for it, the other consumes."""

    kubectl: Kubectl
    system: Kubectl
    readers: PodReaders

    def while_reading(self, act: Callable[[], None]) -> Summary:
        self.readers.reset()
        act()
        time.sleep(READ_SECONDS)
        self.readers.wait_reading()
        return self.readers.summary()


@pytest.fixture(scope="module")
def reading(installation: Installation, cluster: Cluster) -> Iterator[Reading]:
    kubectl = installation.in_namespace("updates")
    kubectl("create", "namespace", "updates")
    kubectl("label", "namespace", "updates", "pod-security.kubernetes.io/enforce=restricted")
    kubectl.wait_for(["serviceaccount", "default"], lambda account: True)
    with Seaweed(host=cluster.addresses.machine) as store:
        with S3Bucket(store.endpoint_url, "bucket", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create()
            put_files(bucket)
        mount = s3_mount("s3://bucket/", store.endpoint_url)
        kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key), dataset("demo", [mount]), runtime("demo")])
        try:
            shows(kubectl, "demo", PHASE="Bound")
            readers = PodReaders(kubectl, "demo", ["node-1", "node-2"])
            yield Reading(kubectl, installation.in_namespace(NAMESPACE), readers)
        finally:
            kubectl("delete", "pods", "--all", "--now", "--wait=true", timeout_seconds=90)
            kubectl("delete", "dataset", "--all", "--wait=true", timeout_seconds=90)
            kubectl("delete", "namespace", "updates", "--wait=true", timeout_seconds=90)


@pytest.fixture
def longest_seconds(allowed: Callable[[float], float]) -> float:
    """At ordinary length, two clusters and their tests share the processors."""
    return allowed(LONGEST_SECONDS)


def check(reading: Reading, promise: Promise, longest_seconds: float, figure: str, what: str, act: Callable[[], None]) -> None:
    found = reading.while_reading(act)
    assert (found.failed, found.wrong) == (0, 0), found.errors
    assert found.longest < longest_seconds, f"longest read {found.longest:.1f} s"
    counted = (
        f"{found.reads} reads, {found.opens} opens: {found.failed} failed, {found.wrong} wrong; longest {found.longest:.2f} s"
    )
    promise(
        figure, f"{what}, while pods on two nodes read", counted, f"0 failed, 0 wrong, longest read below {longest_seconds:g} s"
    )


def cache_pods(kubectl: Kubectl) -> list[str]:
    found = kubectl.items("pods", "--selector=app.kubernetes.io/component=cache")
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def rolled_out(kubectl: Kubectl, *names: str) -> None:
    for name in names:
        kubectl("rollout", "status", name, "--timeout=180s", timeout_seconds=190)


def test_the_cache_pods_are_updated(reading: Reading, promise: Promise, longest_seconds: float) -> None:
    before = set(cache_pods(reading.kubectl))

    def act() -> None:
        """A changed configuration restarts the pods of a Dataset."""
        patch = '{"spec": {"worker": {"env": {"CHANGED": "1"}}, "fuse": {"env": {"CHANGED": "1"}}}}'
        reading.kubectl("patch", "alluxioruntime", "demo", "--type=merge", "--patch", patch)
        assert wait_until(lambda: before.isdisjoint(cache_pods(reading.kubectl)), 90.0, 0.5), cache_pods(reading.kubectl)
        for one in reading.kubectl.items("daemonsets"):
            rolled_out(reading.kubectl, f"daemonset/{one['metadata']['name']}")

    check(reading, promise, longest_seconds, "K4 cache", "rolling update of the cache pods", act)


@pytest.mark.parametrize("part", ["daemonset/fusecache-node", "daemonset/fusecache-custody", "deployment/fusecache-operator"])
def test_parts_are_updated(reading: Reading, part: str, promise: Promise, longest_seconds: float, full_length: bool) -> None:
    if "custody" not in part and not full_length:
        pytest.skip("at full length only")

    def act() -> None:
        reading.system("rollout", "restart", part)
        rolled_out(reading.system, part)

    check(reading, promise, longest_seconds, f"K4 {part.rpartition('-')[2]}", f"rolling update of {part}", act)


@pytest.mark.parametrize("component", ["node", "custody", "operator", "controller", "cache"])
def test_pods_are_deleted_by_force(reading: Reading, component: str, promise: Promise, full_length: bool) -> None:
    if component != "node" and not full_length:
        pytest.skip("at full length only")
    kubectl = reading.kubectl if component == "cache" else reading.system

    def act() -> None:
        kubectl("delete", "pods", f"--selector=app.kubernetes.io/component={component}", "--force", "--grace-period=0")
        time.sleep(1)
        kubectl("wait", "--for=condition=Ready", "pods", f"--selector=app.kubernetes.io/component={component}", "--timeout=90s",
                timeout_seconds=100)  # fmt: skip

    found = reading.while_reading(act)
    assert (found.failed, found.wrong) == (0, 0), found.errors
    counted = f"{found.reads} reads: {found.failed} failed, {found.wrong} wrong; longest {found.longest:.2f} s"
    promise(f"K4 force {component}", f"kubectl delete pod --force of {component} on all nodes", counted, "0 failed, 0 wrong")


def test_node_plugin_and_cache_pod_are_deleted_together(reading: Reading, promise: Promise) -> None:
    def act() -> None:
        for kubectl, component in ((reading.system, "node"), (reading.kubectl, "cache")):
            kubectl("delete", "pods", f"--selector=app.kubernetes.io/component={component}", "--force", "--grace-period=0")
        time.sleep(1)
        for kubectl, component in ((reading.system, "node"), (reading.kubectl, "cache")):
            kubectl("wait", "--for=condition=Ready", "pods", f"--selector=app.kubernetes.io/component={component}",
                    "--timeout=90s", timeout_seconds=100)  # fmt: skip

    found = reading.while_reading(act)
    assert (found.failed, found.wrong) == (0, 0), found.errors
    counted = f"{found.reads} reads: {found.failed} failed, {found.wrong} wrong; longest {found.longest:.2f} s"
    promise("K4 both", "node plugin and cache pods deleted together by force", counted, "0 failed, 0 wrong")
