"""Boots a cluster: the order of the steps, and what each waits for.

Everything is written down before it is made (record.py, launch.py), so that `removal.remove` can take back what a boot left that
failed or was killed, at whatever step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.cluster_harness import addresses, builds, control_plane, kubeconfigs, nodes, registry, wiring
from tests.cluster_harness.boxes import Box, tail
from tests.cluster_harness.certificates import Authority
from tests.cluster_harness.cluster import BOOTED_FILE, Cluster, import_into, pause_archive
from tests.cluster_harness.progress import Progress
from tests.cluster_harness.record import ClusterRecord
from tests.support.kubectl import KubectlError

ADMINISTRATOR = "administrator"
STEP_SECONDS = 90.0  # for anything to become ready; a guess for two cores that others use, too
POLL_SECONDS = 0.2


class BootError(Exception):
    """A step did not get where it should; says which, and what the log concerned ends with."""


def boot(directory: Path, progress: Progress, programs: dict[str, Path]) -> Cluster:
    """Boot a cluster into an empty directory, whose lock the caller holds.

    Args:
        programs: as `builds.build(*builds.OF_CLUSTER)` returns them.
    Raises: BootError, BoxError, KubectlError, RuntimeError, OSError; what was made until then stays.
    """
    with addresses.chosen() as plan, progress.step("boxes and network"):
        record = ClusterRecord.new(plan)
        record.store(directory)
        cluster = Cluster(directory, record)
        _make_boxes(cluster, programs)
        wiring.connect(record, cluster.control_plane, cluster.nodes)
    numbers = {name: record.number(name) for name in record.nodes}
    with progress.step("certificates and configuration"):
        authority = Authority(directory / "pki")
        authority.issue(ADMINISTRATOR, ADMINISTRATOR, control_plane.MASTERS)
        kubeconfigs.write(cluster.kubeconfig, plan.api_url, authority.directory, ADMINISTRATOR)
        control_plane.prepare(cluster.control_plane, plan, authority)
        for node in cluster.nodes:
            nodes.prepare(node, plan, numbers[node.name], authority)
    with progress.step("etcd, API server, containerd"):
        control_plane.start_etcd(cluster.control_plane)
        control_plane.start_api_server(cluster.control_plane, plan)
        for node in cluster.nodes:
            nodes.start_containerd(node)
        archive = pause_archive()
        for node in cluster.nodes:
            _wait(partial(nodes.containerd_answers, node), node, "containerd")
            import_into(node, archive)  # the kubelet would look for it somewhere else otherwise
        _wait(partial(_is_ready, cluster), cluster.control_plane, "kube-apiserver")
    with progress.step("controllers, kubelets, proxies, DNS"):
        control_plane.start_controllers(cluster.control_plane)
        for node in cluster.nodes:
            nodes.start_kubelet(node, plan.node(numbers[node.name]))
            nodes.start_proxy(node)
        cluster.kubectl.create(control_plane.dns_objects(plan))
        control_plane.start_dns(cluster.control_plane)
        registry.start(cluster.control_plane, plan)
        for node in cluster.nodes:
            _wait(partial(_is_node_ready, cluster, node.name), node, "kubelet")
    with progress.step("service accounts"):
        _wait(partial(_has_service_account, cluster), cluster.control_plane, "kube-controller-manager")
    (directory / BOOTED_FILE).touch()
    if problems := cluster.problems():
        raise BootError("; ".join(problems))
    return cluster


def _make_boxes(cluster: Cluster, programs: dict[str, Path]) -> None:
    """All at once: most of the time goes into starting four interpreters."""
    record, plan = cluster.record, cluster.addresses
    hosts = {cluster.control_plane.name: plan.control_plane}
    hosts.update({name: plan.node(record.number(name)) for name in record.nodes})
    mounts = {str(path): f"/opt/{name}" for name, path in programs.items()}
    boxes = [cluster.control_plane, *cluster.nodes]
    with ThreadPoolExecutor(len(boxes)) as threads:
        list(threads.map(lambda box: box.make(hosts, plan.control_plane, mounts), boxes))


def _wait(condition: Callable[[], bool], box: Box, program: str) -> None:
    """Wait until a condition holds that `program` must bring about. Raises: BootError, at once if the program has ended."""
    deadline = time.monotonic() + STEP_SECONDS
    while not condition():
        state = box.program(program)
        if state is None or not state.process.is_alive:
            raise BootError(f"{program} of {box.name} has ended; {box.log(program)} ends with:\n{tail(box.log(program))}")
        if time.monotonic() > deadline:
            raise BootError(f"{program} of {box.name} is not ready after {STEP_SECONDS:.0f} s; see {box.log(program)}")
        time.sleep(POLL_SECONDS)


def _is_ready(cluster: Cluster) -> bool:
    try:
        return cluster.kubectl("get", "--raw=/readyz", timeout_seconds=5) == "ok"
    except KubectlError:
        return False


def _is_node_ready(cluster: Cluster, name: str) -> bool:
    try:
        conditions = cluster.kubectl.get("node", name)["status"].get("conditions", [])
    except KubectlError:  # it has not registered yet
        return False
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _has_service_account(cluster: Cluster) -> bool:
    """No pod is admitted to a namespace before its service account is there."""
    try:
        cluster.kubectl.get("serviceaccount", "default")
    except KubectlError:
        return False
    return True


def build_programs(progress: Progress) -> dict[str, Path]:
    """Raises: builds.BuildError."""
    with progress.step("programs"):
        return builds.build(*builds.OF_CLUSTER)
