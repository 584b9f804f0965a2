"""Which fields of an object have no effect here: what the one `FieldIgnored` event of a generation names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from csi.operator.model.fields import Items, Member, mark_below, members_by_key
from csi.operator.model.json_path import step
from csi.operator.model.kinds import KINDS
from csi.operator.model.marks import Mark, Place
from csi.operator.model.structure import Structure

_MAX_TEXT = 900  # characters of the list in an event, whose whole message may have 1024
_OF_EVERY_OBJECT = frozenset({"apiVersion", "kind", "metadata", "status"})


def ignored_fields(kind: str, raw_object: Mapping[str, Any], schemes: Collection[str] = ()) -> list[str]:
    """Return the paths of what is written and has no effect, unknown keys included, sorted.

    Values that say what holds without them (an empty list, the default) are not worth a word. `schemes`: of the mounts of the
    Dataset, such as hdfs; some fields count with some stores only.
    """
    whole = {key: value for key, value in raw_object.items() if key not in _OF_EVERY_OBJECT}
    looker = _Looker(raw_object, frozenset(schemes))
    return sorted(looker.look(KINDS[kind].model, whole, "", None, None))


def ignored_text(paths: Collection[str]) -> str:
    """Return the list as an event has it."""
    text = ", ".join(paths)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 4].rsplit(", ", 1)[0] + " ..."


class _Looker:
    """Goes through one object."""

    def __init__(self, whole: Mapping[str, Any], schemes: frozenset[str]) -> None:
        self._whole = whole
        self._schemes = schemes

    def look(
        self, structure: type[Structure], raw: Mapping[str, Any], path: str, holder: Member | None, holder_mark: Mark | None
    ) -> Iterator[str]:
        """Yield ignored paths of a structure. `holder`: the field whose value the structure is, with the mark it has here."""
        known = members_by_key(structure)
        for key, value in raw.items():
            here = step(path, key)
            member = known.get(key)
            if member is None:
                if value is not None:
                    yield here
            elif not _says_nothing(value, member):
                inherited = mark_below(holder, holder_mark, key) if holder and holder_mark else None
                yield from self._look_at(member, value, raw, here, inherited or member.notes.mark)

    def _look_at(self, member: Member, value: Any, beside: Mapping[str, Any], path: str, mark: Mark) -> Iterator[str]:
        place = Place(value, beside, self._whole, self._schemes)
        if (mark & Mark.IGNORED and not member.notes.below) or any(when.holds(place) for when in member.notes.ignored_when):
            yield path
        elif member.nested is not None:
            entries = enumerate(value) if isinstance(member.shape, Items) and isinstance(value, list) else [(None, value)]
            for number, entry in entries:
                if isinstance(entry, Mapping):
                    inner = path if number is None else step(path, number)
                    yield from self.look(member.nested, entry, inner, member, mark)


def _says_nothing(value: Any, member: Member) -> bool:
    return value is None or value in ("", [], {}) or (value == member.default and isinstance(value, type(member.default)))
