"""Pods that read all the time and compare every byte with what it has to be; how many reads failed, how long the longest took.

The files follow a rule that both sides know, so that a pod needs nothing to compare with. The script runs where Python is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.dataset_objects import reading_pod
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import in_pod, wait_pod

BLOCK = 64 << 10
_SUMMARY = "/tmp/summary"
SCRIPT = """
import hashlib, json, os, random, sys, threading, time
BLOCK = 65536
root = "/data/tree"
lock, counts = threading.Lock(), dict(reads=0, opens=0, failed=0, wrong=0, longest=0.0, errors=[])
under_way = {}
def read_for_ever(keeps):
    names = sorted(os.listdir(root)); handles = {}
    while True:
        name = random.choice(names); began = under_way[keeps] = time.monotonic(); opened = 0
        try:
            if name not in handles:
                handles[name] = os.open(root + "/" + name, os.O_RDONLY); opened = 1
            fd = handles[name]
            number = random.randrange(max(1, os.fstat(fd).st_size // BLOCK))
            data = os.pread(fd, BLOCK, number * BLOCK)
            right = data == hashlib.shake_128(f"{name}:{number}".encode()).digest(BLOCK)
            error = None
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if not keeps:
                os.close(handles.pop(name))
        except OSError as problem:
            right, error = True, f"{name}: {problem}"
            if name in handles:
                os.close(handles.pop(name))
            time.sleep(0.05)
        took = time.monotonic() - began
        with lock:
            counts["reads"] += 1; counts["opens"] += opened
            counts["longest"] = max(counts["longest"], took)
            counts["wrong"] += not right
            if error:
                counts["failed"] += 1; counts["errors"] = (counts["errors"] + [error])[-5:]
        time.sleep(0.002)
for keeps in (True, False):
    threading.Thread(target=read_for_ever, args=(keeps,), daemon=True).start()
while True:
    time.sleep(0.2)
    with lock:
        waiting = max((time.monotonic() - began for began in under_way.values()), default=0.0)
        text = json.dumps({**counts, "longest": max(counts["longest"], waiting)})
        if os.path.exists("/tmp/reset"):
            os.unlink("/tmp/reset"); counts.update(reads=0, opens=0, failed=0, wrong=0, longest=0.0, errors=[])
    with open("/tmp/summary.new", "w") as file:
        file.write(text)
    os.rename("/tmp/summary.new", "/tmp/summary")
"""


def content(name: str, blocks: int) -> bytes:
    return b"".join(hashlib.shake_128(f"{name}:{number}".encode()).digest(BLOCK) for number in range(blocks))


def files(count: int = 12, blocks: int = 16) -> dict[str, bytes]:
    """Return path in the Dataset → bytes."""
    return {f"tree/file-{number:02d}": content(f"file-{number:02d}", blocks) for number in range(count)}


def put_files(bucket: S3Bucket) -> None:
    for name, value in files().items():
        bucket.put(name.encode(), value)


def write_files(root: Path) -> None:
    for name, value in files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(value)


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all pods together. `longest`: seconds of the longest read, with its open."""

    reads: int
    opens: int
    failed: int
    wrong: int
    longest: float
    errors: tuple[str, ...]


class PodReaders:
    """Reader pods of one claim. They go with their namespace."""

    def __init__(self, kubectl: Kubectl, claim: str, nodes: Sequence[str] = ("",), *, cpu: str = "") -> None:
        """`cpu`: that each requests."""
        self._kubectl = kubectl
        self.names = [f"reader-{claim}-{number}" for number in range(len(nodes))]
        pods = [reader_pod(name, claim, node=node, cpu=cpu) for name, node in zip(self.names, nodes, strict=True)]
        kubectl.create(pods)
        for name in self.names:
            wait_pod(kubectl, name)
        self.wait_reading()

    def wait_reading(self, seconds: float = 30.0) -> None:
        """Return when each pod has read since the last reset."""
        assert wait_until(lambda: all(self._of(name).get("reads", 0) > 20 for name in self.names), seconds, 0.5), self.summary()

    def reset(self) -> None:
        for name in self.names:
            self._kubectl("exec", name, "--", "touch", "/tmp/reset")
        self.wait_reset()

    def wait_reset(self) -> None:
        for name in self.names:
            in_pod(self._kubectl, name, "while [ -e /tmp/reset ]; do sleep 0.1; done; sleep 0.3")

    def summary(self) -> Summary:
        all_of = [self._of(name) for name in self.names]
        return Summary(
            reads=sum(one.get("reads", 0) for one in all_of),
            opens=sum(one.get("opens", 0) for one in all_of),
            failed=sum(one.get("failed", 0) for one in all_of),
            wrong=sum(one.get("wrong", 0) for one in all_of),
            longest=max((one.get("longest", 0.0) for one in all_of), default=0.0),
            errors=tuple(error for one in all_of for error in one.get("errors", ())),
        )

    def _of(self, name: str) -> dict[str, Any]:
        text = in_pod(self._kubectl, name, f"cat {_SUMMARY} 2>/dev/null || echo '{{}}'")
        found: dict[str, Any] = json.loads(text)
        return found


def reader_pod(name: str, claim: str, *, node: str = "", cpu: str = "") -> dict[str, Any]:
    pod = reading_pod(name, claim, node=node)
    container = pod["spec"]["containers"][0]
    container["command"] = ["python3", "-c", SCRIPT]
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return pod
