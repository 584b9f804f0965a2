"""What an option in somebody else's words becomes here: rows of tables, which the code and docs/options.md are made from."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


class Effect(enum.Enum):
    SOURCE = "option"  # an option of the source, `target` being its name
    SECRET = "credential"  # a credential of the source
    SETTING = "setting"  # a setting of the whole mount
    DECISION = "decision"  # something that the resolving code decides by; `note` says what
    NOTHING = "silent"  # says what holds in any case, or concerns what does not exist here
    IGNORED = "ignored"  # without effect, and OptionIgnored names it
    REFUSED = "refused"


class WithoutEffect(Exception):
    """A value that cannot be followed and may be ignored; its text says what holds instead."""


class NotServed(Exception):
    """A value that cannot be followed and must not be ignored; its text says why."""


Converter = Callable[[str], str | None]  # None: nothing to do. Raises ValueError with what is expected, and the two above


def same(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Row:
    """`keys`: spellings, of which the first one that is given counts; a `*` stands for anything.

    `may_be_secret`: an option of the source that may be taken from a Secret as well.
    """

    keys: tuple[str, ...]
    effect: Effect
    target: str = ""
    convert: Converter = same
    note: str = ""
    may_be_secret: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in their order; an exact key wins over a pattern, and an earlier pattern over a later one."""

    title: str
    rows: tuple[Row, ...]
    _exact: Mapping[str, tuple[int, Row]] = field(init=False)
    _patterns: tuple[tuple[str, int, Row], ...] = field(init=False)

    def __post_init__(self) -> None:
        ranked = [(key, row) for row in self.rows for key in row.keys]
        exact = {key: (rank, row) for rank, (key, row) in reversed(list(enumerate(ranked))) if "*" not in key}
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_patterns", tuple((key, rank, row) for rank, (key, row) in enumerate(ranked) if "*" in key))

    def find(self, key: str) -> Row | None:
        ranked = self._ranked(key)
        return ranked[1] if ranked else None

    def in_order(self, keys: Iterable[str]) -> list[tuple[str, Row]]:
        """Return those of the keys that the table has, so that of several spellings the one that counts comes last."""
        found = [(ranked[0], key, ranked[1]) for key in keys if (ranked := self._ranked(key))]
        return [(key, row) for _, key, row in sorted(found, key=lambda entry: (-entry[0], entry[1]))]

    def _ranked(self, key: str) -> tuple[int, Row] | None:
        if key in self._exact:
            return self._exact[key]
        return next(((rank, row) for pattern, rank, row in self._patterns if fnmatchcase(key, pattern)), None)


def option(target: str, *spellings: str, convert: Converter = same, note: str = "") -> Row:
    return Row((target, *spellings), Effect.SOURCE, target, convert, note)


def other_units(target: str, *keys: str, convert: Converter, note: str = "") -> Row:
    """Further spellings of an option, of values that are read in another way."""
    return Row(keys, Effect.SOURCE, target, convert, note)


def credential(target: str, *spellings: str, note: str = "") -> Row:
    return Row((target, *spellings), Effect.SECRET, target, note=note)


def setting(target: str, *keys: str, convert: Converter, note: str = "") -> Row:
    return Row(keys, Effect.SETTING, target, convert, note)


def decision(target: str, *keys: str, convert: Converter = same, note: str) -> Row:
    return Row(keys, Effect.DECISION, target, convert, note)


def silent(*keys: str, note: str = "") -> Row:
    return Row(keys, Effect.NOTHING, note=note)


def ignored(*keys: str, note: str = "") -> Row:
    return Row(keys, Effect.IGNORED, note=note)


def refused(*keys: str, note: str) -> Row:
    return Row(keys, Effect.REFUSED, note=note)
