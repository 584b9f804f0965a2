"""What becomes of a field, in words."""

from __future__ import annotations

from csi.operator.model.fields import Member
from csi.operator.model.marks import Mark

_EFFECTS = {
    Mark.HONOURED: "honoured",
    Mark.MAPPED: "translated",
    Mark.PASSED_ON: "passed on",
    Mark.IGNORED: "ignored, with a Warning",
    Mark.SILENT: "no effect",
}


def effect(member: Member, mark: Mark) -> str:
    """Return what the reference says. `mark`: the field's where it stands, which may be that of a field around it."""
    if mark & Mark.IGNORED and member.notes.below:
        return "see its fields"
    words = [" or ".join(text for one, text in _EFFECTS.items() if mark & one)]
    if mark & Mark.REFUSABLE:
        words.append("some values are refused")
    if not mark & Mark.IGNORED:
        words += [f"ignored, with a Warning, {_when(member)}"] if member.notes.ignored_when else []
    return "; ".join(words)


def explanation(member: Member, mark: Mark, written_by_us: bool) -> str:
    """Return what `kubectl explain` says: the field's meaning, and a word where it has none here."""
    words = [member.notes.description]
    if written_by_us:
        words += ["Never written."] if mark & Mark.SILENT else []
    elif mark & (Mark.IGNORED | Mark.SILENT) and not member.notes.below:
        words.append("It has no effect here.")
    elif member.notes.ignored_when:
        words.append(f"It has no effect {_when(member)}.")
    return " ".join(words)


def _when(member: Member) -> str:
    return " or ".join(f"when {when.text}" for when in member.notes.ignored_when)
