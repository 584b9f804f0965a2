"""Objects are replaced, deleted, made again, grown and shrunk under readers (figures 10 and 11)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounted import Mounted
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed
from tests.support.stored_truth import environment

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

PROGRAM = Path(__file__).parent.parent / "support" / "pinned_reader.py"
SIZES = {"small-0": 100_000, "small-1": 70_001, "large-0": 3_000_000, "large-1": 5 << 20}
READERS = 3
PAUSE_SECONDS = 0.05  # between two replacements: time for some reads of each version
MOST_SECONDS = 240.0
TTL = 1.0
# Between a name's check and its use lie one read of a reader that waited its turn on two busy cores, and the second that
# a check's time stamp is rounded by.
SLACK_SECONDS = 2.5


class Writer:
    """Replaces objects; remembers when each version was the current one: [byte or None, first moment, last moment]."""

    def __init__(self, bucket: S3Bucket, seed: int) -> None:
        self._bucket = bucket
        self._random = random.Random(seed)
        self.versions: dict[str, list[tuple[int | None, float, float]]] = {name: [] for name in SIZES}
        self._sizes = dict(SIZES)
        self._last_byte = 0
        self.actions: Counter[str] = Counter()

    def put(self, name: str, size: int) -> None:
        self._last_byte = self._last_byte % 251 + 1
        body = bytes([self._last_byte]) * size
        before = time.monotonic()
        self._bucket.put(name.encode(), body)
        self._note(name, self._last_byte, before)
        self._sizes[name] = size

    def change_something(self) -> None:
        name = self._random.choice(list(SIZES))
        action = self._random.choice(["same size"] * 4 + ["grown", "shrunk", "deleted"])
        size = self._sizes[name]
        if self.versions[name][-1][0] is None:
            action = "made again"
        if action == "deleted":
            before = time.monotonic()
            self._bucket.delete(name.encode())
            self._note(name, None, before)
        elif action == "grown":
            self.put(name, min(8 << 20, size + self._random.randrange(1, size)))
        elif action == "shrunk":
            self.put(name, max(1, size // self._random.randrange(2, 5)))
        else:
            self.put(name, SIZES[name])
        self.actions[action] += 1

    def _note(self, name: str, byte: int | None, before: float) -> None:
        history = self.versions[name]
        if history:
            history[-1] = (*history[-1][:2], time.monotonic())
        history.append((byte, before, float("inf")))

    def was_current(self, name: str, byte: int | None, since: float, until: float) -> bool:
        return any(one == byte and begin <= until and end >= since for one, begin, end in self.versions[name])


def start_reader(mounted: Mounted, stop: Path, seed: int) -> subprocess.Popen[bytes]:
    job = {"root": str(mounted.mountpoint), "names": list(SIZES), "seconds": MOST_SECONDS, "stop": str(stop), "seed": seed}
    return subprocess.Popen([sys.executable, str(PROGRAM), json.dumps(job)], stdout=subprocess.PIPE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("access", ["openless", "passthrough"])
def test_a_reader_sees_one_version_at_a_time(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], seaweed: Seaweed, access: str
) -> None:
    replacements = (1000 if access == "openless" else 400) if full_length else 45
    stop = disk_path / "stop"
    bucket_name = f"replaced-{access}"
    with S3Bucket(seaweed.endpoint_url, bucket_name, ADMIN.access_key, ADMIN.secret_key).create() as bucket:
        writer = Writer(bucket, 5)
        for name, size in SIZES.items():
            writer.put(name, size)
        options = {"ttl": str(TTL), "negative_ttl": "0.5", "access": access}
        with Mounted(
            disk_path, [f"s3://{bucket_name}"], environment=environment(seaweed.endpoint_url), options=options
        ) as mounted:
            readers = [start_reader(mounted, stop, seed) for seed in range(READERS)]
            try:
                for done in range(1, replacements + 1):
                    writer.change_something()
                    time.sleep(PAUSE_SECONDS)
                    if done % 20 == 0:  # what was cached of versions that are gone cannot be fetched again
                        mounted.run("drop", str(mounted.mountpoint))
                        Path("/proc/sys/vm/drop_caches").write_text("1")
                stop.touch()
                found = [json.loads(reader.communicate(timeout=60)[0]) for reader in readers]
            finally:
                for reader in readers:
                    reader.kill()
                    reader.wait()
            assert_new_version_is_seen(mounted, writer)
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for one in found:
        counts.update({key: value for key, value in one.items() if isinstance(value, int)})
        errors.update(one["errors"])
    opens: list[list[Any]] = [opened for one in found for opened in one["opens"]]
    late = [one for one in opens if not writer.was_current(one[0], one[3], one[1] - TTL - SLACK_SECONDS, one[2])]
    promise(
        "10, 11" if access == "openless" else "10b, 11b",
        f"{replacements} replacements under {READERS} readers with up to 6 open files each ({access}): "
        + ", ".join(f"{count} {action}" for action, count in sorted(writer.actions.items())),
        f"{counts['reads']} reads, {counts['pinned_reads']} of them of replaced versions: {counts['mixed']} mixed versions, "
        f"{counts['switched']} open files changed their version, {counts['short']} short, {counts['stale']} ESTALE, "
        f"{sum(errors.values())} other errors; {len(opens)} opens: {len(late)} showed a version older than the TTL",
        "0 mixed, 0 switched, 0 short, errors ESTALE only, 0 opens beyond the TTL",
    )
    assert counts["pinned_reads"] > 0
    assert counts["stale"] > 0, "no version went while it was read: the run proves nothing"
    assert not counts["mixed"]
    assert not counts["switched"]
    assert not counts["short"]
    assert not errors
    assert counts["open_stale"] <= counts["stale"] / 10, "open(2) looks the name up again: ESTALE should be rare there"
    assert not late, late[:5]


def assert_new_version_is_seen(mounted: Mounted, writer: Writer) -> None:
    """After the TTL by itself, before it after `refresh`."""
    for name, size in SIZES.items():
        writer.put(name, size)
    time.sleep(TTL + 0.5)
    for name, size in SIZES.items():
        assert mounted.read_bytes(name) == bytes([writer.versions[name][-1][0] or 0]) * size
    for name, size in SIZES.items():
        writer.put(name, size)
    mounted.run("refresh", str(mounted.mountpoint))
    for name, size in SIZES.items():
        assert mounted.read_bytes(name) == bytes([writer.versions[name][-1][0] or 0]) * size
