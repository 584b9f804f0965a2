"""What a warm is about, as it travels: in the body of `POST /warm` of a cache pod, and in {"do": "warm"} of the control socket.

| field | meaning |
|---|---|
| paths | files, and directories with all that is below them; "" is the root. Neither paths nor patterns: everything |
| patterns | the same for all that match: `*` and `?` stand for anything within a name, `**` for any directories, or none |
| name_filter | only files whose names match: `*`, `?`, `[abc]`; "" for all |
| file_list | a file of the tree that names files or directories, one a line: of what is above, only these |
| list_root | the directory that the lines of file_list begin at |
| metadata_only | names and versions alone |
| dry_run | only counts: totals, and what of it is cached already |
| until_full | a cache that is too small is no failure: it is filled in order, and the answer says "full" |
| owned | only what the node owns among those that share their caches, and only that is counted: see below |
| copies | with "owned": of each block, on as many nodes: its owner, and those that would own it next. All of them are counted |
| parallel | files at a time; 0: as many as the daemon finds right |

With "owned" bytes are counted that the node owns, and a file where its beginning is owned. So the figures of all nodes add up to
those of the data, if each of them says the same "owners" at the end; else some of it may have been left out, or loaded twice, and
they are to be asked again. Where a node is alone it owns everything, and "owners" is empty if it does not look for others.

Written by the loader, `fusecache warm` and whoever else asks; read by fetch. Stateless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

MAX_PARALLEL = 1024


@dataclass(frozen=True, slots=True)
class WarmRequest:
    """Paths and patterns have no slash at their ends. Names that are not UTF-8 have surrogate escapes."""

    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    name_filter: str = ""
    file_list: str = ""
    list_root: str = ""
    metadata_only: bool = False
    dry_run: bool = False
    until_full: bool = False
    owned: bool = False
    copies: int = 1
    parallel: int = 0

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> WarmRequest:
        """Raises: ValueError, in words for whoever asked."""
        known = {one.name: one.default for one in fields(cls)}
        if unknown := sorted(set(raw) - set(known)):
            raise ValueError(f"{unknown[0]!r} is not known; known are {', '.join(known)}")
        found: dict[str, Any] = {}
        for name, value in raw.items():
            found[name] = _parsed(name, value, known[name])
        return cls(**found)

    def to_raw(self) -> dict[str, Any]:
        """Return the fields that say something."""
        default = asdict(WarmRequest())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @property
    def fixed_paths(self) -> list[str]:
        """Return paths, and of patterns the directories that all their matches lie in."""
        return [*self.paths, *("/".join(fixed_part(pattern)) for pattern in self.patterns)] or [""]


def fixed_part(pattern: str) -> list[str]:
    """Return the names before the first one that is none, but for the last: a pattern's own match is looked for."""
    found = []
    for part in pattern.split("/")[:-1]:
        if any(character in part for character in "*?"):
            break
        found.append(part)
    return found


def _parsed(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{name} has to be a list of strings")
        return tuple(_path(one) for one in value)
    if type(value) is not type(default):
        raise ValueError(f"{name} has to be of type {type(default).__name__}")
    if isinstance(value, str):
        return value if name == "name_filter" else _path(value)
    if name == "parallel" and not 0 <= value <= MAX_PARALLEL:
        raise ValueError(f"parallel has to be 0 to {MAX_PARALLEL}")
    if name == "copies" and value < 1:
        raise ValueError("copies has to be 1 or more")
    return value


def _path(text: str) -> str:
    parts = [part for part in text.split("/") if part]
    if "\0" in text or any(part in (".", "..") for part in parts):
        raise ValueError("a path has no '.', '..' or NUL in it")
    return "/".join(parts)
