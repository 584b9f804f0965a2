"""Runs the cases. Job (JSON):

root       an empty directory of the file system under test
read_only  the same directory, mounted read-only
elsewhere  a directory of another file system
workers    processes that share the cases
skip       names of cases that are not asked

It prints JSON: name -> null, or what came instead of what POSIX says.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Any

from tests.support.pjdfstest import errors, files, names  # noqa: F401 - they register their cases
from tests.support.pjdfstest.tools import CASES, PLACES, Missed

CASE_SECONDS = 60


def _too_long(number: int, frame: object) -> None:
    raise Missed(f"no end after {CASE_SECONDS} s")


def ask(root: str, number: int, name: str) -> str | None:
    """Return what came instead of what was expected."""
    place = os.path.join(root, f"case{number}")
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(CASE_SECONDS)
    try:
        os.mkdir(place, 0o755)
        os.chdir(place)
        CASES[name]()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Missed as missed:
        return str(missed)
    finally:
        signal.alarm(0)
        os.chdir("/")
    return None


def main() -> None:
    job: dict[str, Any] = json.loads(sys.argv[1])
    PLACES.update(read_only=job["read_only"], elsewhere=job["elsewhere"])
    os.umask(0)
    asked = [name for name in CASES if name not in job["skip"]]
    readers = []
    for worker in range(job["workers"]):
        reader, writer = os.pipe()
        readers.append(reader)
        if os.fork():
            os.close(writer)
            continue
        answers = {name: ask(job["root"], number, name) for number, name in enumerate(asked) if number % job["workers"] == worker}
        with open(writer, "w") as pipe:
            json.dump(answers, pipe)
        os._exit(0)
    found: dict[str, str | None] = {}
    for reader in readers:
        with open(reader) as pipe:
            found.update(json.load(pipe))
    print(json.dumps({name: found[name] for name in asked}))


if __name__ == "__main__":
    main()
