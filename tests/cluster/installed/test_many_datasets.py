"""Many Datasets that nobody mounts: each is listed and verified by a short Job; what the operator costs at rest (figure K7)."""

from __future__ import annotations

import datetime
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csi.operator.formats import format_size
from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, runtime
from tests.support.installation import NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.nginx import nginx

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(4800), pytest.mark.requires("nginx")]

COUNT, FULL_COUNT = 10, 500
FILES, FILE_BYTES = 3, 1000
REST_MINUTES, FULL_REST_MINUTES = 1, 30  # watches begin anew after some minutes, events are repeated after 25
SECONDS_EACH = 6.0  # a Job is a pod with two interpreters, on two cores
MAX_CALLS_PER_MINUTE = 60


def test_many_datasets_without_workers(
    cluster: Cluster,
    tmp_path: Path,
    new_namespace: Callable[..., Kubectl],
    promise: Callable[[str, str, str, str], None],
    request: pytest.FixtureRequest,
) -> None:
    count, rest_minutes = (FULL_COUNT, FULL_REST_MINUTES) if request.config.getoption("--full-length") else (COUNT, REST_MINUTES)
    for number in range(FILES):
        (tmp_path / f"file-{number}").write_bytes(b"x" * FILE_BYTES)
    kubectl = new_namespace("many")
    with nginx(tmp_path, address=cluster.addresses.machine) as url:
        names = [f"demo-{number:03d}" for number in range(count)]
        mount = {"mountPoint": url, "name": "data", "path": "/"}
        began = time.monotonic()
        for name in names:
            kubectl.create([dataset(name, [mount]), runtime(name, replicas=0)])
        kubectl.wait_for(["pvc", names[-1]], lambda claim: claim["status"].get("phase") == "Bound", 60.0 + count)
        claim_seconds = time.monotonic() - began

        def bound() -> int:
            return sum(one.get("status", {}).get("phase") == "Bound" for one in kubectl.items("datasets"))

        assert wait_until(lambda: bound() == count, 60 + count * SECONDS_EACH, 2.0), f"{bound()} of {count} are bound"
        bound_seconds = time.monotonic() - began
        for one in kubectl.items("datasets"):
            shown = one["status"]["fileNum"], one["status"]["ufsTotal"]
            assert shown == (str(FILES), format_size(FILES * FILE_BYTES)), one["status"]
        last_seconds = seconds_to_bound(kubectl.get("dataset", names[-1]))
        assert kubectl.items("jobs") == []
        operator = leader(kubectl)
        time.sleep(20)
        minutes = calls_by_minute(kubectl, operator, rest_minutes)
        worst = max(minutes, key=Counter.total)
        memory = resident_mib(kubectl, operator)
        assert worst.total() <= MAX_CALLS_PER_MINUTE, minutes
        promise(
            "K7",
            f"{count} Datasets with replicas 0, listed and verified by Jobs",
            f"the last claim Bound after {claim_seconds:.0f} s, all Datasets after {bound_seconds:.0f} s, the last one "
            f"{last_seconds:.0f} s after it was created; operator {memory} MiB; API calls at rest: "
            f"{sum(one.total() for one in minutes) / rest_minutes:.0f} a minute, {worst.total()} in the worst of {rest_minutes}",
            f"all Bound with the right totals; at rest at most {MAX_CALLS_PER_MINUTE} calls a minute, most of them the Lease",
        )
        kubectl("delete", "dataset", "--all", "--wait=true", timeout_seconds=60 + 2 * count)


def seconds_to_bound(raw: dict[str, Any]) -> float:
    """Return how long after its creation a Dataset became Ready, to the second."""
    (ready,) = (one for one in raw["status"]["conditions"] if one["type"] == "Ready")
    times = [
        datetime.datetime.fromisoformat(text) for text in (raw["metadata"]["creationTimestamp"], ready["lastTransitionTime"])
    ]
    return (times[1] - times[0]).total_seconds()


def leader(kubectl: Kubectl) -> str:
    """Return the pod of the operator that works."""
    system = Kubectl(kubectl.kubeconfig, NAMESPACE, kubectl.cache)
    holder = str(system.get("lease", "fusecache-operator")["spec"]["holderIdentity"])
    pods = system.items("pods", "--selector=app.kubernetes.io/component=operator")
    return next(pod["metadata"]["name"] for pod in pods if holder.startswith(pod["metadata"]["name"]))


def calls(kubectl: Kubectl, pod: str) -> Counter[str]:
    """Return how many requests the operator has sent to the API server, by verb and resource."""
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:9810/proxy/metrics")
    lines = re.findall(r"^fusecache_operator_api_calls_total\{(.*)\} (\S+)$", text, re.MULTILINE)
    return Counter({labels: int(float(value)) for labels, value in lines})


def calls_by_minute(kubectl: Kubectl, pod: str, minutes: int) -> list[Counter[str]]:
    """Return the requests that the operator sends in each of so many minutes."""
    counts = [calls(kubectl, pod)]
    began = time.monotonic()
    for minute in range(1, minutes + 1):
        time.sleep(max(0.0, began + minute * 60.0 - time.monotonic()))
        counts.append(calls(kubectl, pod))
    return [after - before for before, after in itertools.pairwise(counts)]


def resident_mib(kubectl: Kubectl, pod: str) -> int:
    system = Kubectl(kubectl.kubeconfig, NAMESPACE, kubectl.cache)
    status = system("exec", pod, "--", "cat", "/proc/1/status")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) // 1024
