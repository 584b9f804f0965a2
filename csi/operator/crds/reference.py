"""docs/api-reference.md: every field of every kind, with what becomes of it here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from csi.operator.crds.wording import effect
from csi.operator.model.fields import Items, Leaf, Member, Shape, members_by_key, walk
from csi.operator.model.kinds import KINDS, Kind
from csi.operator.model.marks import Mark
from csi.operator.model.structure import Structure
from csi.operator.names import API_VERSION

_INTRODUCTION = f"""\
# Kinds and their fields

Everything of `{API_VERSION}`, as it is served here. This file is generated from `csi/operator/model` by `make crds`.

What becomes of a field:

- *honoured*: it does what it says.
- *translated*: it becomes another setting of this cache, with the same aim; [options.md](options.md) has all of them.
- *passed on*: it goes to the pods or objects that are created.
- *ignored, with a Warning*: it has no effect, and one event `FieldIgnored` names all such fields of the object. The same
  holds for keys that are not listed here.
- *no effect*: it informs, or says what is done in any case.

Values that are missing in the column "default" are empty, or false.
"""
_SPEC_TABLE = "| field | type | default | meaning | here |\n|---|---|---|---|---|\n"
_PLAIN_TABLE = "| field | type | default | meaning |\n|---|---|---|---|\n"
_STATUS_TABLE = "| field | type | meaning |\n|---|---|---|\n"
_SEEN_ELSEWHERE = frozenset({"apiVersion", "kind", "metadata", "status"})


def reference() -> str:
    """Return the whole document."""
    sections = [_INTRODUCTION, *(_kind(kind) for kind in KINDS.values()), *_statuses()]
    return "\n".join(sections)


def _kind(kind: Kind) -> str:
    names = [f"`kubectl get {kind.plural}`"]
    if kind.short_name and kind.short_name != kind.name.lower():
        names.append(f"short `{kind.short_name}`")
    names.append("of the whole cluster" if kind.of_cluster else "in a namespace")
    if kind.in_category:
        names.append("part of `kubectl get fluid`")
    description = f"{(kind.model.__doc__ or '').strip()} ({', '.join(names)})"
    if kind.instead:
        description += (
            f"\n\n**Not carried out.** An object becomes `Failed`, with the event `DataOperationNotSupport`: {kind.instead}."
        )
        description += " Its fields are checked, and none has an effect but `ttlSecondsAfterFinished`."
        rows = [_plain_row(path, member) for path, member, _ in _fields(kind)]
        return f"## {kind.name}\n\n{description}\n\n{_PLAIN_TABLE}{''.join(rows)}"
    rows = [_spec_row(path, member, mark) for path, member, mark in _fields(kind)]
    return f"## {kind.name}\n\n{description}\n\n{_SPEC_TABLE}{''.join(rows)}"


def _fields(kind: Kind) -> Iterator[tuple[str, Member, Mark]]:
    """Yield what a user may write, but nothing below fields that have no effect as a whole."""
    closed: tuple[str, ...] = ()
    for path, member, mark in walk(kind.model):
        if path.split(".")[0] in _SEEN_ELSEWHERE or path == "spec" or path.startswith(closed or ("\0",)):
            continue
        if mark & (Mark.IGNORED | Mark.SILENT) and member.nested is not None and not member.notes.below:
            closed = (*closed, f"{path}.", f"{path}[].")
        yield path, member, mark


def _statuses() -> Iterator[str]:
    """Yield a section for each form of status: kinds share them."""
    kinds_of: dict[type[Structure], list[str]] = {}
    for kind in KINDS.values():
        status = members_by_key(kind.model).get("status")
        if status is not None and status.nested is not None and status.nested.model_fields:
            kinds_of.setdefault(status.nested, []).append(kind.name)
    for structure, kinds in kinds_of.items():
        rows = (_status_row(path, member) for path, member, _ in walk(structure, "status."))
        yield f"## Status of {_listed(kinds)}\n\n{_STATUS_TABLE}{''.join(rows)}"


def _spec_row(path: str, member: Member, mark: Mark) -> str:
    return f"{_plain_row(path, member).rstrip()} {effect(member, mark)} |\n"


def _plain_row(path: str, member: Member) -> str:
    name = f"`{path}`" + (", required" if member.notes.required else "")
    return f"| {name} | {_type(member.shape)} | {_default(member)} | {_cell(member.notes.description)} |\n"


def _status_row(path: str, member: Member) -> str:
    never = " Never written." if member.notes.mark & Mark.SILENT and path.count(".") == 1 else ""
    return f"| `{path}` | {_type(member.shape)} | {_cell(member.notes.description)}{never} |\n"


def _type(shape: Shape) -> str:
    if isinstance(shape, Leaf):
        return _cell(shape.schema.title)
    if isinstance(shape, Items):
        return f"list of {_type(shape.each)}"
    return "object"


def _default(member: Member) -> str:
    if member.notes.default_text:
        return _cell(member.notes.default_text)
    if member.notes.written is not None:
        return _literal(member.notes.written)
    if isinstance(member.default, bool | int | str) and member.default not in (False, ""):
        return _literal(member.default)
    return ""


def _literal(value: Any) -> str:
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
