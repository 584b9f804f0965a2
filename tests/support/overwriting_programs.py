"""Programs that cut off and overwrite files, each a function that runs in a process of its own, in a directory on a mount that
may be written. They raise AssertionError if they read back anything else."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def truncate_right_after_close(rounds: int) -> None:
    """By name, while the mount may still be busy with the end of the file."""
    for number in range(rounds):
        path = Path(f"cut-{number}")
        path.write_bytes(b"0123456789")
        os.truncate(path, 4)
        found = [path.read_bytes()]
        with open(path, "ab") as file:
            file.write(b"more")
        found.append(path.read_bytes())
        os.truncate(path, 10)
        found.append(path.read_bytes())
        assert found == [b"0123", b"0123more", b"0123more\0\0"], (path, found)


def overwrite_right_after_close(rounds: int) -> None:
    path = Path("overwritten")
    for number in range(rounds):
        data = b"%d" % number * (rounds - number)
        path.write_bytes(data)
        assert path.read_bytes() == data, number


def overwrite_and_wait(name: str, data: str) -> None:
    """Write some of it, say so, and go on when a line comes."""
    with open(name, "wb", buffering=0) as file:
        file.write(data[:5].encode())
        print("open", flush=True)
        sys.stdin.readline()
        file.write(data[5:].encode())
