"""Published manifests are accepted as they are: by the schema, by the parser, without a word about what they set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from csi.operator.crds.definition import definition
from csi.operator.model.ignored import ignored_fields
from csi.operator.model.kinds import KINDS
from csi.operator.model.parsing import parse
from tests.support.structural_schema import refusals

MANIFESTS = Path(__file__).parents[2] / "manifests"


def objects() -> Iterator[Any]:
    for path in sorted(MANIFESTS.glob("*.yaml")):
        for number, raw in enumerate(yaml.safe_load_all(path.read_text())):
            if raw["apiVersion"].startswith("data.fluid.io/"):
                yield pytest.param(raw, id=f"{path.stem}-{number}")


@pytest.mark.parametrize("raw", list(objects()))
def test_manifests(raw: dict[str, Any]) -> None:
    schema = definition(KINDS[raw["kind"]])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert refusals(schema, raw) == []
    assert parse(raw).kind == raw["kind"]
    expected = ["spec.master.jvmOptions"] if raw["metadata"]["name"] == "polefs-acc" and raw["kind"] == "AlluxioRuntime" else []
    assert ignored_fields(raw["kind"], raw) == expected


def test_there_are_some() -> None:
    assert len(list(objects())) == 12
