"""Rendered objects of the chart; tests are skipped where helm is neither built nor can be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster_harness import builds
from tests.support.helm import PODS, Helm, render


@pytest.fixture(scope="session")
def helm() -> Helm:
    """helm without a cluster."""
    try:
        builds.program("helm")
    except builds.BuildError as error:
        pytest.skip(f"helm is not built and cannot be, it needs Go: {error}")
    return Helm()


@pytest.fixture(scope="session")
def objects(helm: Helm) -> list[dict[str, Any]]:
    """All but the definitions, with values as they are."""
    return render({"definitions": {"install": False}})


@pytest.fixture(scope="session")
def workloads(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] in PODS]
