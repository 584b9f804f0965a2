"""The chart is upgraded, removed and installed again with Datasets in use: they are still there, and pods go on (figure K8).

These tests change the release that the others of this directory use, and leave it as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, keys, reading_pod, runtime, s3_mount
from tests.support.installation import READY_SECONDS, Installation
from tests.support.kubectl import Kubectl
from tests.support.pod_readers import PodReaders, put_files
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import in_pod, shows, wait_pod
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def store(cluster: Cluster) -> Iterator[Seaweed]:
    with Seaweed(host=cluster.addresses.machine) as seaweed:
        with S3Bucket(seaweed.endpoint_url, "bucket", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create().put(b"file", b"bytes")
            put_files(bucket)
        yield seaweed


def test_the_chart_goes_and_comes_back(
    store: Seaweed,
    installation: Installation,
    new_namespace: Callable[..., Kubectl],
    promise: Callable[[str, str, str, str], None],
) -> None:
    if not installation.release.images:
        pytest.skip("the release was installed by somebody else")
    kubectl = new_namespace("reinstalled")
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
    kubectl.create([dataset("demo", [s3_mount("s3://bucket/", store.endpoint_url)]), runtime("demo")])
    shows(kubectl, "demo", PHASE="Bound")
    readers = PodReaders(kubectl, "demo", ["node-1", "node-2"])
    readers.reset()
    installation.release.uninstall()
    time.sleep(5)
    without = readers.summary()
    assert (without.failed, without.wrong) == (0, 0), without.errors
    assert without.reads > 100, "nobody read while there was no release"
    assert kubectl.get("dataset", "demo")["status"]["phase"] == "Bound"
    installation.release.install("--wait", f"--timeout={READY_SECONDS}")
    readers.wait_reading()
    after = readers.summary()
    assert (after.failed, after.wrong) == (0, 0), after.errors
    kubectl.create([reading_pod("late", "demo", node="node-3")])
    wait_pod(kubectl, "late")
    assert in_pod(kubectl, "late", "cat /data/file") == "bytes"
    promise(
        "K8",
        "helm uninstall and install with a Dataset in use on two nodes",
        f"{after.reads} reads: {after.failed} failed, {after.wrong} wrong, longest {after.longest:.2f} s; the Dataset is there,"
        " and a new pod on a third node read",
        "Datasets are still there, mounts of running pods survive",
    )
