"""Labels and annotations for volumes, asked for by an annotation of the runtime."""

from __future__ import annotations

import json
from typing import Any

import pytest

from csi.operator.model.parsing import parse
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.metadata_list import ANNOTATION, CLAIM, VOLUME, volume_metadata
from csi.operator.resolved import ObjectMetadata
from tests.support.resolving import raw


def asked(text: str) -> tuple[dict[str, ObjectMetadata], list[str]]:
    findings = Findings()
    runtime = parse(raw("AlluxioRuntime", {}, metadata={"annotations": {ANNOTATION: text}}))
    found = volume_metadata(runtime, findings)
    assert all(problem.on_runtime for problem in findings.problems)
    return found, [problem.message for problem in findings.problems]


def test_what_is_asked_for() -> None:
    entries: list[dict[str, Any]] = [
        {"selector": {"group": "", "kind": VOLUME}, "labels": {"a": "1"}, "annotations": {"b": "2"}},
        {"selector": {"kind": VOLUME}, "labels": {"c": "3"}},
        {"selector": {"kind": CLAIM}, "annotations": {"d": "4"}},
        {"selector": {"kind": "Pod"}, "labels": {"e": "5"}},
    ]
    assert asked(json.dumps(entries)) == (
        {VOLUME: ObjectMetadata({"a": "1", "c": "3"}, {"b": "2"}), CLAIM: ObjectMetadata({}, {"d": "4"})},
        [],
    )
    assert asked("") == ({}, [])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "1",
        "[1]",
        "[{}]",
        '{"a": 1}',
        '[{"selector": {}}]',
        '[{"selector": {"kind": "PersistentVolume"}, "labels": {"a": 1}}]',
        '[{"selector": {"kind": "PersistentVolume"}, "labels": "a"}]',
        "[" * 100_000,
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    found, messages = asked(text)
    assert found == {}
    assert len(messages) == 1


def test_keys_of_ours() -> None:
    _, messages = asked('[{"selector": {"kind": "PersistentVolume"}, "labels": {"fusecache.io/x": "a"}}]')
    assert "ours to set" in messages[0]
