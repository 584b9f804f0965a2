"""Reads a source's `KEY=VALUE` options, so that a misspelt key or value is refused with the nearest right one.

Holds no state beyond one call of `open_source`; used by every source while it is opened, from one thread.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TypeVar

from fusecache.contract.errors import CacheError, ErrorKind

T = TypeVar("T")

_TRUE = frozenset({"1", "true", "yes", "on", ""})
_FALSE = frozenset({"0", "false", "no", "off"})
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class OptionReader:
    """One pass over the options of one source: ask for each key the source knows, then call `reject_unknown`.

    The keys that were asked for are the keys that are known: there is no second list to keep in step.
    """

    def __init__(self, scheme: str, options: Mapping[str, str]) -> None:
        self._scheme = scheme
        self._options = options
        self._known: set[str] = set()
        self._other_spellings: set[str] = set()

    def text(self, *keys: str) -> str | None:
        """Return the value of the first of these spellings that was given, or None. An empty value counts as given."""
        self._known.update(keys)
        for key in keys:
            if key in self._options:
                return self._options[key]
        return None

    def accept(self, *keys: str) -> None:
        """Let these pass as well: spellings of other tools, which no message lists."""
        self._other_spellings.update(keys)

    def boolean(self, key: str, default: bool) -> bool:
        """`true/yes/on/1` or a bare key, `false/no/off/0`."""

        def parse(text: str) -> bool:
            if text.lower() in _TRUE:
                return True
            if text.lower() in _FALSE:
                return False
            raise ValueError

        return self._parsed(key, default, parse, "true or false")

    def integer(self, key: str, default: int, minimum: int = 0, maximum: int = 1 << 62) -> int:
        """A decimal number within the bounds, both inclusive."""

        def parse(text: str) -> int:
            number = int(text)
            if not minimum <= number <= maximum:
                raise ValueError
            return number

        return self._parsed(key, default, parse, f"a whole number from {minimum} to {maximum}")

    def seconds(self, key: str, default: float) -> float:
        """A positive duration in seconds; `500ms`, `30s`, `5m` are understood too."""

        def parse(text: str) -> float:
            for suffix, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)):
                if text.endswith(suffix):
                    value = float(text[: len(text) - len(suffix)]) * factor
                    break
            if not 0 < value < 1e6:
                raise ValueError
            return value

        return self._parsed(key, default, parse, "a duration such as 30, 30s or 500ms")

    def size(self, key: str, default: int) -> int:
        """Bytes; `512k`, `8MiB` are understood too (always powers of 1024)."""

        def parse(text: str) -> int:
            body = text.lower().removesuffix("b").removesuffix("i")
            digits = body.rstrip("kmgt")
            value = int(digits) * _SIZE_UNITS[body[len(digits) :]]
            if value <= 0:
                raise ValueError
            return value

        return self._parsed(key, default, parse, "a size such as 1048576 or 1Mi")

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of the given words."""

        def parse(text: str) -> str:
            if text not in choices:
                raise ValueError
            return text

        return self._parsed(key, default, parse, "one of " + ", ".join(choices))

    def reject_unknown(self) -> None:
        """Raise INVALID for the first key nobody asked for, naming the nearest known one."""
        for key in sorted(self._options):
            if key not in self._known and key not in self._other_spellings:
                near = difflib.get_close_matches(key, sorted(self._known | self._other_spellings), 1, 0.6)
                cure = f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(sorted(self._known)) or 'none'}"
                raise CacheError(ErrorKind.INVALID, f"unknown option {key!r} for a {self._scheme}:// source; {cure}")

    def _parsed(self, key: str, default: T, parse: Callable[[str], T], expected: str) -> T:
        text = self.text(key)
        if text is None:
            return default
        try:
            return parse(text.strip())
        except (ValueError, KeyError):
            message = f"option {key} of a {self._scheme}:// source is {text!r}; it must be {expected}"
            raise CacheError(ErrorKind.INVALID, message) from None
