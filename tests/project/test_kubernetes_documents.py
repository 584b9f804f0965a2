"""What documents say of Kubernetes: manifests that are accepted and come to something, every reason of events and conditions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from csi import DRIVER_NAME
from csi.operator.crds.definition import definition
from csi.operator.model.data_load import DataLoad
from csi.operator.model.dataset import Dataset
from csi.operator.model.ignored import ignored_fields
from csi.operator.model.kinds import KINDS
from csi.operator.model.parsing import parse
from csi.operator.names import API_VERSION
from csi.operator.resolve.load import refuse_load
from csi.operator.resolve.resolution import resolve
from csi.operator.resolved import Resolved
from csi.volumes import parameters
from tests.support.mounted import ROOT
from tests.support.structural_schema import refusals

DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs" / name for name in ("kubernetes.md", "migrating-from-fluid.md"))]
BLOCK = re.compile(r"^( *)```yaml\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# Kinds of Kubernetes itself that documents may show.
OTHERS = {("v1", "Pod"), ("v1", "Secret"), ("v1", "PersistentVolumeClaim"), ("storage.k8s.io/v1", "StorageClass")}

OPERATOR = ROOT / "csi" / "operator"
REASON = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+")
# Words of the same form in the operator's code that are no reasons of ours: a new word belongs here or into the document.
OF_KUBERNETES = {
    "ClusterFirstWithHostNet", "ConfigMap", "CronJob", "DaemonSet", "DeadlineExceeded", "DisruptionTarget", "FailJob",
    "FallbackToLogsOnError", "IfNotPresent", "PersistentVolume", "PersistentVolumeClaim", "PodScheduled", "ReadOnlyMany",
    "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod", "RollingUpdate", "RuntimeDefault", "ServiceAccount", "VolumeAttachment",
    "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ErrImagePull",
    "ImagePullBackOff", "InvalidImageName", "RunContainerError",
}  # fmt: skip
OF_OBJECTS = {
    "AccessKeyId", "AccessKeySecret", "CreatedBy", "FilesDone", "FusesReady", "MasterReady", "MountPod", "NotBound", "NotReady",
    "OnDemand", "OnEvent", "OnFuseChanged", "OnRuntimeDeleted", "PartialReady", "SecurityToken",
}  # fmt: skip


def blocks() -> Iterator[Any]:
    """Yield the objects of each block of YAML."""
    for path in DOCUMENTS:
        text = path.read_text()
        for match in BLOCK.finditer(text):
            line = text[: match.start()].count("\n") + 1
            yield pytest.param(match[2], id=f"{path.stem}-line-{line}")


@pytest.mark.parametrize("block", list(blocks()))
def test_manifests_are_accepted_and_every_field_has_an_effect(block: str) -> None:
    objects = [each for each in yaml.safe_load_all(block) if each]
    assert objects
    for raw in objects:
        assert raw["metadata"]["name"]
        if raw["apiVersion"] != API_VERSION:
            assert (raw["apiVersion"], raw["kind"]) in OTHERS
            continue
        schema = definition(KINDS[raw["kind"]])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert refusals(schema, raw) == []
        assert parse(raw).kind == raw["kind"]
        assert ignored_fields(raw["kind"], raw) == []


@pytest.mark.parametrize("block", list(blocks()))
def test_manifests_come_to_something(block: str) -> None:
    """A Dataset with its runtime, a DataLoad, a StorageClass: nothing is refused, and nothing is worth a word."""
    parsed = [parse(raw) for raw in yaml.safe_load_all(block) if raw and raw["apiVersion"] == API_VERSION]
    runtimes = {each.metadata.name: each for each in parsed if each.kind.endswith("Runtime")}
    for each in parsed:
        if isinstance(each, Dataset):
            resolved = resolve(each, runtimes[each.metadata.name])
            assert isinstance(resolved, Resolved), resolved
            assert resolved.remarks == ()
        elif isinstance(each, DataLoad):
            assert refuse_load(each) == []
    for raw in yaml.safe_load_all(block):
        if raw["kind"] == "StorageClass":
            assert raw["provisioner"] == DRIVER_NAME
            parameters.parse(raw["parameters"])


def test_there_are_some() -> None:
    assert len(list(blocks())) >= 7


def reasons_of_the_document() -> set[str]:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    section = text[text.index("### Reasons") :].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


def words_of_the_code() -> set[str]:
    paths = [path for part in ("app", "resolve", "render") for path in (OPERATOR / part).glob("*.py")]
    constants = (node for path in paths for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    return {node.value for node in constants if isinstance(node.value, str) and REASON.fullmatch(node.value)}


def test_every_reason_is_documented_and_the_other_way_round() -> None:
    assert reasons_of_the_document() == words_of_the_code() - OF_KUBERNETES - OF_OBJECTS - set(KINDS)


def test_words_that_are_no_reasons_are_still_used() -> None:
    assert words_of_the_code() >= OF_KUBERNETES | OF_OBJECTS


@pytest.mark.parametrize("path", DOCUMENTS[1:], ids=lambda path: path.stem)
def test_anchors_lead_somewhere(path: Path) -> None:
    """Links with a fragment, to headings of these and of other documents."""
    for target, fragment in re.findall(r"\]\(([\w.-]*\.md)?#([^)]+)\)", path.read_text()):
        linked = path.parent / target if target else path
        assert fragment in set(anchors(linked.read_text())), f"{linked.name}#{fragment}"


def anchors(text: str) -> Iterator[str]:
    """Yield what headings of a document are called in links, and anchors that are written down."""
    yield from re.findall(r'<a id="([^"]+)">', text)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
