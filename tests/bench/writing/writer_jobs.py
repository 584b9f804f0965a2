"""Writers as jobs of the reader program, which runs this file by its path: they wait before the clock starts, as readers do.

Each takes an order, and `begin` to call when the work itself begins; it returns an amount. `files` of an order are as in
content.py, below `root`. Every file is closed, and a close that fails is a failure.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Begin = Callable[[], None]


def _load_content() -> Any:
    spec = importlib.util.spec_from_file_location("content", Path(__file__).with_name("content.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


content = _load_content()


def directories(order: dict[str, Any], begin: Begin) -> int:
    """Make directories; return their number."""
    for name in order["names"]:
        os.mkdir(os.path.join(order["root"], name))
    return len(order["names"])


def whole(order: dict[str, Any], begin: Begin) -> int:
    """Create files one after the other, each written from its beginning to its end by writes of a MiB; return bytes."""
    content.prepare()
    paths = [(os.path.join(order["root"], file["name"]), file) for file in order["files"]]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    begin()
    total = 0
    for path, file in paths:
        fd = os.open(path, flags, 0o644)
        for piece in content.pieces(file):
            total += _write(fd, piece)
        os.close(fd)
    return total


def small(order: dict[str, Any], begin: Begin) -> int:
    """The same, but return the number of files."""
    whole(order, begin)
    return len(order["files"])


def patch(order: dict[str, Any], begin: Begin) -> int:
    """Write over a MiB of each file that is there; return the number of files."""
    content.prepare()
    begin()
    for file in order["files"]:
        offset, number = file["patch"]
        fd = os.open(os.path.join(order["root"], file["name"]), os.O_RDWR)
        os.lseek(fd, offset, os.SEEK_SET)
        _write(fd, content.piece(number))
        os.close(fd)
    return len(order["files"])


def check(order: dict[str, Any], begin: Begin) -> int:
    """Read files and compare them with what was written; return their number. Raises: RuntimeError at the first difference."""
    import xxhash

    for file in order["files"]:
        state = xxhash.xxh3_128()
        with open(os.path.join(order["root"], file["name"]), "rb", buffering=0) as read:
            while data := read.read(content.PIECE_BYTES):
                state.update(data)
        if state.hexdigest() != content.digest(file):
            raise RuntimeError(f"{file['name']} has other bytes than were written")
    return len(order["files"])


def _write(fd: int, data: memoryview) -> int:
    at = 0
    while at < len(data):
        at += os.write(fd, data[at:])
    return at
