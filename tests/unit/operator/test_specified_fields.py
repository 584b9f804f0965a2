"""The model has every field that is specified, with the right mark, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from csi.operator.model.fields import Member, members_by_key, walk
from csi.operator.model.kinds import KINDS
from csi.operator.model.marks import Mark
from csi.operator.model.runtime_status import RuntimeStatus
from tests.support.specified_fields import SpecifiedFields

SPECIFIED = SpecifiedFields(Path(__file__).parent / "specified_fields.yaml")
LETTERS = {
    Mark.HONOURED: "H",
    Mark.MAPPED: "M",
    Mark.PASSED_ON: "P",
    Mark.IGNORED: "W",
    Mark.SILENT: "S",
    Mark.REFUSABLE: "R",
}


def letters(member: Member, mark: Mark) -> str:
    conditional = "?" if member.notes.ignored_when and not mark & Mark.IGNORED else ""
    return "".join(letter for one, letter in LETTERS.items() if mark & one) + conditional


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_fields_that_users_write(kind) -> None:
    root = members_by_key(kind.model)["spec"].nested if kind.has_spec else kind.model
    found = {
        path: letters(member, mark)
        for path, member, mark in walk(root)
        if kind.has_spec or path.split(".")[0] not in {"apiVersion", "kind", "metadata"}
    }
    assert found == SPECIFIED.of_kind(kind.name)


def test_every_kind_is_specified() -> None:
    assert SPECIFIED.kinds.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.columns], ids=lambda kind: kind.name)
def test_fields_of_statuses(kind) -> None:
    status = members_by_key(kind.model)["status"].nested
    name = kind.name
    if status is RuntimeStatus:
        name = "runtimes"
    elif kind.name.startswith("Data") and kind.name != "Dataset":
        name = "operations"
    specified = SPECIFIED.of_status(name)
    found = {path: member.notes.required for path, member, _ in walk(status) if not path.startswith("mounts[]")}
    assert found.keys() == specified.keys()
    assert {path for path, required in found.items() if required and "." not in path} == {
        path for path, required in specified.items() if required
    }


def test_every_field_says_what_it_is() -> None:
    for kind in KINDS.values():
        for path, member, mark in walk(kind.model):
            words = member.notes.description
            assert words.endswith("."), (kind.name, path)
            assert words[0].isupper(), (kind.name, path)
            assert len(mark & ~Mark.REFUSABLE) in (1, 2), (kind.name, path)
