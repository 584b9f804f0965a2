"""Manifests that people have are valid for the API server with our definitions, strictly: no field is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster_harness.cluster import Cluster
from tests.support.definitions import apply_definitions
from tests.support.kubectl import Kubectl, KubectlError
from tests.support.mounted import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

PATHS = sorted((ROOT / "tests" / "manifests").glob("*.yaml"))


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """A cluster with definitions, and with the namespaces that the manifests name."""
    kubectl = cluster.kubectl
    apply_definitions(kubectl)
    objects = [each for path in PATHS for each in yaml.safe_load_all(path.read_text()) if each]
    there = {each["metadata"]["name"] for each in kubectl.items("namespaces")}
    made = sorted({each["metadata"].get("namespace", "default") for each in objects} - there)
    kubectl.create([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in made])
    yield kubectl
    kubectl("delete", "namespace", "--wait=true", *made, timeout_seconds=120)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_valid(kubectl: Kubectl, path: Path) -> None:
    kubectl("apply", "--dry-run=server", "--validate=strict", f"--filename={path}")


def test_strictly_means_that_a_field_nobody_knows_is_an_error(kubectl: Kubectl) -> None:
    text = PATHS[0].read_text().replace("metadata:", "unheardOf: 1\nmetadata:", 1)
    with pytest.raises(KubectlError, match="unheardOf"):
        kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=text)
