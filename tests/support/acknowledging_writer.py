"""Writes below a directory until that fails, and says at once what it begins and what was acknowledged. A program.

`python acknowledging_writer.py DIRECTORY SEED` prints lines of JSON: {"begin": name, "sha": ..., "size": ...} before the first
call that changes a name, {"done": name} after the last one returned 0. Names get new content again and again, by every way
programs use: written anew, over the old bytes, a temporary file renamed, appended to and synced.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys

NAMES = 8


def main(directory: str, seed: int) -> None:
    chance = random.Random(seed)
    os.makedirs(directory, exist_ok=True)
    contents: dict[str, bytes] = {}
    fresh = 0
    while True:
        way = chance.choice(("new", "new", "again", "rename", "append"))
        if way == "new":
            name, fresh = f"n{seed}-{fresh}", fresh + 1
        else:
            name = f"{way}{seed}-{chance.randrange(NAMES)}"
        added = chance.randbytes(chance.choice((0, 100, 5_000, 70_000, 300_000)))
        content = contents.get(name, b"") + added if way == "append" else added
        tell({"begin": name, "sha": hashlib.sha256(content).hexdigest(), "size": len(content)})
        path = os.path.join(directory, name)
        if way == "append":
            with open(path, "ab", buffering=0) as file:
                write_all(file.fileno(), added)
                os.fsync(file.fileno())
        elif way == "rename":
            with open(path + ".tmp", "wb", buffering=0) as file:
                write_all(file.fileno(), content)
                os.fsync(file.fileno())
            os.rename(path + ".tmp", path)
        else:
            with open(path, "wb", buffering=0) as file:
                write_all(file.fileno(), content)
        contents[name] = content
        tell({"done": name})


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def tell(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except OSError as error:
        tell({"ended": str(error)})
