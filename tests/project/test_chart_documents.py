"""What is written about the chart, and made of it, is what the chart says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.cluster_harness import builds
from tests.support.helm import CHART, read_objects
from tests.support.mounted import ROOT

MANIFESTS = ROOT / "deploy" / "manifests" / "fusecache.yaml"
ROW = re.compile(r"^\| `([A-Za-z.]+)` \| `(.*?)` \|", re.MULTILINE)
# Values that are one thing to whoever sets them: their content is Kubernetes' own.
WHOLE = {"affinity", "nodeSelector", "podAnnotations", "podLabels", "podMonitorLabels", "resources", "tolerations"}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and name not in WHOLE:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_every_value_and_its_default_is_documented() -> None:
    text = (ROOT / "docs" / "helm.md").read_text()
    documented = [(name, json.loads(default)) for name, default in ROW.findall(text[text.index("## Values") :])]
    assert documented == list(_leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    for name, _ in _leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
        node = schema
        for part in name.split("."):
            assert node["additionalProperties"] is False, name
            node = node["properties"][part]


def test_the_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert chart["version"] == chart["appVersion"] == version[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_plain_manifests_are_what_the_chart_comes_to() -> None:
    try:
        builds.program("helm")
    except builds.BuildError as error:
        pytest.skip(f"helm is not built and cannot be, it needs Go: {error}")
    script = ROOT / "scripts" / "manifests.sh"
    rendered = subprocess.run([script], capture_output=True, text=True, check=True, timeout=120).stdout
    assert MANIFESTS.read_text() == rendered, "run `make manifests`"
    assert "helm.sh" not in rendered


def test_plain_manifests_have_the_very_definitions() -> None:
    """The script drops lines from what helm prints: none of a definition."""
    found = read_objects(MANIFESTS.read_text())
    assert found[0]["kind"] == "Namespace"
    definitions = {each["metadata"]["name"]: each for each in found if each["kind"] == "CustomResourceDefinition"}
    files = [each for path in (ROOT / "deploy" / "crds").glob("*.yaml") for each in read_objects(path.read_text())]
    assert definitions == {each["metadata"]["name"]: each for each in files}
