"""What people write wrong, or what is not there yet: said within 30 s in words that help, healed by mending it (figure K5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, keys, reading_pod, runtime, s3_mount
from tests.support.installation import NAMESPACE
from tests.support.kubectl import Kubectl, KubectlError
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import in_pod, wait_pod
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

SAID_SECONDS = 30.0
HEALED_SECONDS = 60.0


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Iterator[Seaweed]:
    with Seaweed(host=cluster.addresses.machine) as seaweed:
        with S3Bucket(seaweed.endpoint_url, "bucket", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create().put(b"file", b"bytes")
        yield seaweed


@pytest.fixture
def within_seconds(allowed: Callable[[float], float]) -> float:
    return allowed(SAID_SECONDS)


def said(kubectl: Kubectl, name: str, words: str, began: float, within_seconds: float) -> float:
    """Wait until the condition of a Dataset says it; return after how many seconds since `began`."""
    last: list[Any] = []

    def is_said() -> bool:
        conditions = kubectl.get("dataset", name).get("status", {}).get("conditions", ())
        last[:] = [one["message"] for one in conditions if one["type"] == "Ready" and one["status"] == "False"]
        return any(words in message for message in last)

    assert wait_until(is_said, within_seconds, 0.5), f"{words!r} is not said, but {last}"
    return time.monotonic() - began


def operator_restarts(kubectl: Kubectl) -> int:
    operator = Kubectl(kubectl.kubeconfig, NAMESPACE, kubectl.cache)
    pods = operator.items("pods", "--selector=app.kubernetes.io/component=operator")
    return sum(status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"])


def is_healed(kubectl: Kubectl, name: str) -> None:
    kubectl("wait", "--for=condition=Ready", f"dataset/{name}", f"--timeout={HEALED_SECONDS:.0f}s", timeout_seconds=70)
    kubectl.create([reading_pod(f"reads-{name}", name)])
    wait_pod(kubectl, f"reads-{name}")
    assert in_pod(kubectl, f"reads-{name}", "cat /data/file") == "bytes"


def test_what_is_wrong_is_said_and_heals(
    store: Seaweed, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None], within_seconds: float
) -> None:
    kubectl = new_namespace("bad-input")
    wrong = keys(ADMIN.access_key, "this-is-not-the-key", "wrong-keys")
    right = keys(ADMIN.access_key, ADMIN.secret_key)
    nobody = store.endpoint_url.rsplit(":", 1)[0] + ":1"
    cases = {
        "wrong-key": (s3_mount("s3://bucket/", store.endpoint_url, secret="wrong-keys"), "signature"),
        "no-secret": (s3_mount("s3://bucket/", store.endpoint_url, secret="later"), "Secret later"),
        "no-bucket": (s3_mount("s3://nobucket/", store.endpoint_url), "no such bucket"),
        "no-host": (s3_mount("s3://bucket/", nobody), "refuses connections"),
    }
    restarts = operator_restarts(kubectl)
    kubectl.create([wrong, right])
    for name, (mount, _) in cases.items():
        kubectl.create([dataset(name, [mount]), runtime(name)])
    began = time.monotonic()
    seconds = {name: said(kubectl, name, words, began, within_seconds) for name, (_, words) in cases.items()}

    kubectl.apply([keys(ADMIN.access_key, ADMIN.secret_key, "wrong-keys"), keys(ADMIN.access_key, ADMIN.secret_key, "later")])
    kubectl.apply([dataset(name, [s3_mount("s3://bucket/", store.endpoint_url)]) for name in ("no-bucket", "no-host")])
    for name in cases:
        is_healed(kubectl, name)
    described = kubectl("describe", "dataset")
    assert ADMIN.secret_key not in described
    assert "this-is-not-the-key" not in described
    assert operator_restarts(kubectl) == restarts
    promise(
        "K5",
        "Datasets with a wrong key, a Secret that is missing, a bucket that is missing, a store that is not there; then mended",
        "; ".join(f"{name} said after {after:.0f} s" for name, after in seconds.items())
        + f"; {len(cases)} of {len(cases)} usable after they were mended; 0 restarts of the operator",
        f"a condition within {within_seconds:g} s in the store's own words; mended by fixing the YAML or the Secret",
    )


def test_what_cannot_be_is_refused(store: Seaweed, new_namespace: Callable[..., Kubectl], within_seconds: float) -> None:
    kubectl = new_namespace("refused")
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
    mount = s3_mount("s3://bucket/", store.endpoint_url)
    with pytest.raises(KubectlError, match="quota"):
        kubectl.create([runtime("quota", quota="much")])
    kubectl.create([dataset("zero", [mount]), runtime("zero", quota="0")])
    assert wait_until(lambda: "quota" in kubectl("describe", "alluxioruntime", "zero"), within_seconds, 0.5)
    kubectl.create([dataset("two", [mount]), runtime("two")])
    kubectl("wait", "--for=condition=Ready", "dataset/two", "--timeout=30s", timeout_seconds=40)
    kubectl.create([{**runtime("two"), "kind": "JindoRuntime"}])
    assert wait_until(lambda: "already bound" in kubectl("describe", "jindoruntime", "two"), within_seconds, 0.5)
    assert kubectl.get("dataset", "two")["status"]["phase"] == "Bound"
