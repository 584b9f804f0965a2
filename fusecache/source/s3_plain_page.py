"""Reads a page of ListObjectsV2 in the shape that stores send it, several times as fast as an XML parser with handlers.

What is accepted is a part of well-formed XML, checked byte by byte: elements without attributes, text, the five entities and
character references. Anything else (a comment, a nested owner, another encoding, a mistake) is not read at all: the caller's XML
parser decides on it. Holds no state beyond one page; called from any thread.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SHAPES = 8  # of <Contents> in one page: each costs as much as some hundred objects
FIELDS = ("Key", "Size", "ETag", "LastModified")

_HEAD = re.compile(r'(?:<\?xml version="1\.0" encoding="(?:UTF-8|utf-8)"\?>\s*)?<ListBucketResult(?: xmlns="[^"<&]*")?>')
_ELEMENT = re.compile(r"<([A-Za-z0-9]+)(?:>([^<]*)</\1>|/>)")
_PREFIX = re.compile(r"<CommonPrefixes><Prefix>([^<]*)</Prefix></CommonPrefixes>")
_BEGIN, _END, _LAST = "<Contents>", "</Contents>", "</ListBucketResult>"
# Characters that XML does not know, and those for which a parser has rules of its own (line ends, "]]>").
_CONTROLS = bytes(set(range(0x20)) - {0x09, 0x0A})
_SPECIAL = (b"]]>", "\ufffe".encode(), "\uffff".encode())
_REFERENCE = re.compile(r"&(?:#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6})|(amp|lt|gt|quot|apos));|&")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


@dataclass(slots=True)
class RawPage:
    """Texts as they stand in the page: `objects` has the FIELDS of each, "" for what is missing; `top` the other elements."""

    objects: list[tuple[str, ...]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    top: dict[str, str] = field(default_factory=dict)


class _NotPlainError(Exception):
    pass


def read_plain_page(body: bytes) -> RawPage | None:
    """Return what the page holds, or None if it has to be read by an XML parser."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    head = _HEAD.match(text)
    if head is None or len(body.translate(None, _CONTROLS)) != len(body) or any(one in body for one in _SPECIAL):
        return None
    text = text.replace("&#34;", '"').replace("&quot;", '"')  # the quotes of each ETag: nearly always the only references
    try:
        page = _read(text, head.end())
        if page is not None and "&" in text:
            for found in _REFERENCE.finditer(text):  # also in what nobody asks for: a mistake anywhere makes all of it none
                _referred(found)
            page.objects = [tuple(map(_resolve, one)) for one in page.objects]
            page.prefixes = [_resolve(one) for one in page.prefixes]
            page.top = {name: _resolve(value) for name, value in page.top.items()}
    except _NotPlainError:
        return None
    return page


def _read(text: str, place: int) -> RawPage | None:
    page = RawPage()
    add = page.objects.append
    match, groups = _shape(())
    shapes = 0
    while True:
        if found := match(text, place):
            add(found.group(*groups))
        elif text.startswith(_BEGIN, place):
            shapes += 1
            if shapes > MAX_SHAPES:
                return None
            match, groups = _shape(_tags(text, place + len(_BEGIN)))
            continue
        elif found := _PREFIX.match(text, place):
            page.prefixes.append(found[1])
        elif found := _ELEMENT.match(text, place):
            page.top[found[1]] = found[2] or ""
        elif text.startswith(_LAST, place) and not text[place + len(_LAST) :].strip(" \t\n"):
            return page
        else:
            return None
        place = found.end()


def _tags(text: str, place: int) -> tuple[str, ...]:
    """Return the names of the elements of one object; raises if there is anything else in it."""
    tags = []
    while found := _ELEMENT.match(text, place):
        if found[2] is None:
            raise _NotPlainError
        tags.append(found[1])
        place = found.end()
    if not text.startswith(_END, place) or len(set(tags)) != len(tags):
        raise _NotPlainError
    return tuple(tags)


@functools.lru_cache(maxsize=64)
def _shape(tags: tuple[str, ...]) -> tuple[Callable[[str, int], re.Match[str] | None], tuple[int, ...]]:
    """Return what matches an object of these elements, and the groups that are its FIELDS."""
    inner = [f"<{tag}>{'([^<]*)' if tag in FIELDS else '[^<]*'}</{tag}>" for tag in tags]
    missing = [one for one in FIELDS if one not in tags]
    order = [tag for tag in tags if tag in FIELDS] + missing
    pattern = re.compile("".join([_BEGIN, *inner, _END, *("()" for _ in missing)]))
    return pattern.match, tuple(order.index(one) + 1 for one in FIELDS)


def _resolve(text: str) -> str:
    return _REFERENCE.sub(_referred, text) if "&" in text else text


def _referred(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return _ENTITIES[name]
    code = int(decimal) if decimal else int(hexadecimal, 16) if hexadecimal else 0
    if not (0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0x10000 <= code < 0x110000):
        raise _NotPlainError
    return chr(code)
