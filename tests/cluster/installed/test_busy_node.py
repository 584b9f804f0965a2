"""A node whose processors never rest: pods on it still read (figure K3 busy)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, keys, reading_pod, runtime, s3_mount
from tests.support.kubectl import Kubectl
from tests.support.pod_readers import PodReaders, put_files
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import shows, wait_pod
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

NODE = "node-1"
READ_SECONDS = 10.0
# Without a share of the processors a cache pod gave a fiftieth of what it gives on an idle node; with one, two thirds or more.
LEAST_SHARE = 0.1


@pytest.fixture
def kubectl(cluster: Cluster, new_namespace: Callable[..., Kubectl]) -> Iterator[Kubectl]:
    with Seaweed(host=cluster.addresses.machine) as store:
        with S3Bucket(store.endpoint_url, "bucket", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create()
            put_files(bucket)
        kubectl = new_namespace("busy")
        kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
        kubectl.create([dataset("demo", [s3_mount("s3://bucket/", store.endpoint_url)])])
        yield kubectl
        kubectl("delete", "pods", "--all", "--now", "--wait=true", timeout_seconds=90)
        kubectl("delete", "dataset", "--all", "--wait=true", timeout_seconds=90)


@pytest.mark.parametrize(("role", "caching"), [("worker", NODE), ("consumer", "node-2")])
def test_pods_read_while_others_compute(
    kubectl: Kubectl, role: str, caching: str, promise: Callable[[str, str, str, str], None], full_length: bool
) -> None:
    if not full_length:
        pytest.skip("at full length only: it compares what the processors do")
    kubectl.create([runtime("demo", nodeSelector={"kubernetes.io/hostname": caching})])
    shows(kubectl, "demo", PHASE="Bound")
    readers = PodReaders(kubectl, "demo", [NODE], cpu="300m")
    idle = _blocks_a_second(readers)
    busy = reading_pod("busy", "demo", node=NODE, script="for i in 1 2 3 4; do (while :; do :; done) & done; wait")
    busy["spec"]["volumes"] = []
    busy["spec"]["containers"][0] |= {"volumeMounts": [], "resources": {"requests": {"cpu": "500m"}}}
    kubectl.create([busy])
    wait_pod(kubectl, "busy")
    beside = _blocks_a_second(readers)
    found = readers.summary()
    assert (found.failed, found.wrong) == (0, 0), found.errors
    assert beside >= LEAST_SHARE * idle, f"{beside:.0f} blocks a second, and {idle:.0f} on an idle node"
    promise(
        f"K3 busy {role}",
        f"a pod reads from a {role} on a node whose processors are all busy with another pod's work",
        f"{beside:.0f} blocks of 64 KiB a second, {idle:.0f} before; longest read {found.longest:.2f} s, 0 failed, 0 wrong",
        f"at least {LEAST_SHARE:g} of it",
    )


def _blocks_a_second(readers: PodReaders) -> float:
    readers.wait_reading()
    readers.reset()
    began = time.monotonic()
    time.sleep(READ_SECONDS)
    return readers.summary().reads / (time.monotonic() - began)
