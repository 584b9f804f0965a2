"""Bad days of the store, of the disk and of other writers: an honest error or none, and nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fault_plan import Fault, Gone, Plan
from tests.support.fault_proxy import FaultProxy
from tests.support.mounted import Mounted, run_below, wait_until
from tests.support.plain_store import PlainStore
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, READER, Seaweed
from tests.support.small_disks import SmallDisk
from tests.support.writers import Writers

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

Keep = Callable[[str, str, str, str], None]
KEYS = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}
MIB = 1 << 20

# Writes one file and prints the name of the errno that write, fsync or close ended with, "" if none did.
WRITE = """
import errno, os, sys
path, size, step = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = os.urandom(1 << 20)
try:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        while size > 0:
            size -= os.write(fd, data[:size])
        if step == "fsync":
            os.fsync(fd)
    finally:
        os.close(fd)
except OSError as error:
    print(errno.errorcode[error.errno])
"""


class Bucket:
    """A bucket behind a fault proxy, and what lies in it."""

    def __init__(self, seaweed: Seaweed, proxy: FaultProxy) -> None:
        name = f"bad-days-{os.urandom(4).hex()}"
        S3Bucket(seaweed.endpoint_url, name, ADMIN.access_key, ADMIN.secret_key).create().close()
        keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        self.url = f"s3://{name}"
        self.proxy = proxy
        self.store = PlainStore(self.url, {"endpoint_url": seaweed.endpoint_url, **keys})

    def mounted(self, base: Path, name: str = "mnt", **options: str) -> Mounted:
        given = {"endpoint_url": self.proxy.url, **options}
        return Mounted(base, [self.url], options=given, arguments=["--read-write"], environment=KEYS, name=name)


@pytest.fixture
def bucket(seaweed: Seaweed) -> Iterator[Bucket]:
    with FaultProxy(seaweed.endpoint_url) as proxy:
        bucket = Bucket(seaweed, proxy)
        yield bucket
        bucket.store.close()


def write_below(mounted: Mounted, name: str, size: int, step: str = "close", timeout: float = 60.0) -> str:
    """Return the errno that writing a file ended with, "" for none."""
    command = [sys.executable, "-c", WRITE, name, str(size), step]
    return run_below(mounted.mountpoint, command, timeout).decode().strip()


@pytest.mark.timeout(200)
def test_a_store_that_fails_now_and_then(disk_path: Path, bucket: Bucket, full_length: bool, promise: Keep) -> None:
    seconds, least = (20.0, 30) if full_length else (6.0, 5)
    with bucket.mounted(disk_path) as mounted:
        bucket.proxy.set_plan(
            Plan.evenly(0.15, Fault.UNAVAILABLE, Fault.THROTTLED, Fault.SLOW, Fault.RESET, Fault.LOST, slow_seconds=0.5, seed=5)
        )
        writers = Writers(mounted.mountpoint, seconds)
        try:
            written = writers.collect()
        finally:
            writers.kill()
        counts = bucket.proxy.counts()
        bucket.proxy.set_plan(Plan())
        mounted.umount()
    assert sum(counts.fired.values()) >= least, "too few faults: the run proves nothing"
    written.assert_clean()
    assert written.lost(bucket.store.read) == []
    fired = ", ".join(f"{count} × {fault}" for fault, count in sorted(counts.fired.items()))
    promise(
        "14w",
        "writers, the store answers 503 and 429, late, resets connections, and loses answers to what it did",
        f"{sum(counts.requests.values())} requests, {fired}; {written.calls} steps of writers, {len(written.files)} files:"
        f" 0 lost, 0 wrong,"
        f" 0 calls failed, longest {written.longest_seconds:.1f} s",
        "0 lost, 0 wrong, 0 failed",
    )


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ["through", "back"])
def test_a_store_that_is_away(disk_path: Path, bucket: Bucket, full_length: bool, promise: Keep, mode: str) -> None:
    if not full_length and mode == "back":
        pytest.skip("at full length only")
    away = 10.0 if full_length else 3.0
    with bucket.mounted(disk_path, write_mode=mode, write_back_delay="500ms") as mounted:
        writers = Writers(mounted.mountpoint, away + 5.0)
        try:
            time.sleep(2.0)
            bucket.proxy.set_plan(Plan(gone=Gone.REFUSE))
            time.sleep(away)
            bucket.proxy.set_plan(Plan())
            written = writers.collect()
        finally:
            writers.kill()
        mounted.umount()
    written.assert_clean()
    assert written.lost(bucket.store.read) == []
    promise(
        "16w" if mode == "through" else "16wb",
        f"writers, writing {mode}, the store is away for {away:g} s",
        f"{written.calls} steps of writers, {len(written.files)} files: 0 lost, 0 wrong, 0 calls failed,"
        f" longest {written.longest_seconds:.1f} s",
        "0 lost, 0 wrong, 0 failed: writers wait",
    )


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("match", "size"),
    [
        pytest.param("", 100_000, id="everything"),
        pytest.param("^PUT .*partNumber=", 40 * MIB, id="parts"),
        pytest.param("^POST .*uploadId=", 40 * MIB, id="complete"),
    ],
)
def test_a_store_that_refuses_for_good(
    disk_path: Path, bucket: Bucket, full_length: bool, promise: Keep, match: str, size: int
) -> None:
    """Close and fsync say so within the deadline; what was there stays, what was written is uploaded when the store is back."""
    if not full_length and match.startswith("^PUT"):
        pytest.skip("at full length only")
    with bucket.mounted(disk_path, deadline="3s") as mounted:
        assert write_below(mounted, "known", 1000) == ""
        before = bucket.store.read("known")
        bucket.proxy.set_plan(Plan.evenly(1.0, Fault.UNAVAILABLE, match=match, most_in_a_row=0))
        began = time.monotonic()
        errors = [write_below(mounted, name, size, step) for name, step in (("closed", "close"), ("synced", "fsync"))]
        seconds = time.monotonic() - began
        assert set(errors) <= {"EIO", "ETIMEDOUT"}
        assert bucket.store.names() == {"known"}, "half an object is in the store"
        assert mounted.status()["pending_files"] == 2
        bucket.proxy.set_plan(Plan())
        assert wait_until(lambda: mounted.status()["pending_files"] == 0, 30.0)
        assert bucket.store.names() == {"known", "closed", "synced"}
        assert {len(bucket.store.read(name)) for name in ("closed", "synced")} == {size}
        assert bucket.store.read("known") == before
    promise(
        {"": "17wa", "^PUT .*partNumber=": "17wb"}.get(match, "17wc"),
        f"the store refuses {match or 'everything'} for good, deadline 3 s",
        f"2 of 2 files ended with an error, after {seconds:.1f} s together; 0 half objects; 2 of 2 uploaded when it was back",
        "an honest error at close or fsync; nothing half visible, nothing lost",
    )


@pytest.mark.root
@pytest.mark.timeout(200)
def test_the_disk_of_the_stages_is_full(disk_path: Path, bucket: Bucket, promise: Keep) -> None:
    """ENOSPC at write, or at close for what the journal has no room for; what was acknowledged stays and is uploaded."""
    small = disk_path / "small"
    small.mkdir()
    with SmallDisk(small, 64 * MIB) as disk:
        options = {"write_mode": "back", "cache_dir": str(disk.path)}
        with bucket.mounted(disk_path, **options) as mounted:
            bucket.proxy.set_plan(Plan(gone=Gone.REFUSE))
            acknowledged = [name for name in (f"file{number}" for number in range(20)) if not write_below(mounted, name, 4 * MIB)]
            refused = write_below(mounted, "large", 64 * MIB)
            assert refused == "ENOSPC"
            assert 3 <= len(acknowledged) < 20
            sums = {name: hashlib.sha256(mounted.read_bytes(name)).hexdigest() for name in acknowledged}
            bucket.proxy.set_plan(Plan())
            assert wait_until(lambda: mounted.status()["pending_files"] == 0, 60.0)
            assert wait_until(lambda: write_below(mounted, "after", 4 * MIB) == "", 10.0), "the space does not come back"
            mounted.umount()
    assert {name: hashlib.sha256(bucket.store.read(name)).hexdigest() for name in acknowledged} == sums
    promise(
        "12w",
        "the disk of the journal is full, writing back",
        f"ENOSPC at write; {len(acknowledged)} of {len(acknowledged)} acknowledged files in the store afterwards, 0 wrong",
        "ENOSPC, and nothing acknowledged lost",
    )


@pytest.mark.timeout(200)
def test_two_mounts_write_the_same_object(disk_path: Path, bucket: Bucket, full_length: bool, promise: Keep) -> None:
    """One wins whole, the other is told ESTALE; never a mix."""
    rounds = 60 if full_length else 8
    bases = [disk_path / name for name in ("one", "two")]
    with contextlib.ExitStack() as stack:
        mounts = []
        for base in bases:
            base.mkdir()
            mounts.append(stack.enter_context(bucket.mounted(base, ttl="0s")))
        results: dict[tuple[int, int], str] = {}

        def write(number: int, round_: int) -> None:
            code = (
                "import sys, errno\n"
                "try:\n"
                "    with open('object', 'r+b' if int(sys.argv[2]) % 2 else 'wb') as f:\n"
                "        f.write(bytes([int(sys.argv[1])]) * 300_000)\n"
                "except OSError as error: print(errno.errorcode[error.errno])\n"
            )
            value = str(1 + (2 * round_ + number) % 250)
            results[number, round_] = (
                run_below(mounts[number].mountpoint, [sys.executable, "-c", code, value, str(round_)], 30).decode().strip()
            )

        mixed, refused, done = 0, 0, 0
        for round_ in range(rounds):
            threads = [threading.Thread(target=write, args=(number, round_)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            data = bucket.store.read("object")
            mixed += len(set(data)) != 1 or len(data) != 300_000
            told = [results[number, round_] for number in range(2)]
            assert set(told) <= {"", "ESTALE"}, told
            refused += told.count("ESTALE")
            done += told.count("")
            winners = {1 + (2 * round_ + number) % 250 for number in range(2) if not told[number]}
            assert data[0] in winners or not winners, "the store has what nobody was told is there"
    assert mixed == 0
    assert refused, "never at the same time: the run proves nothing"
    promise(
        "10w",
        "two mounts write the same object at once",
        f"{2 * rounds} writes, {done} done, {refused} refused with ESTALE; 0 mixed",
        "one wins whole, the other is ESTALE; never a mix",
    )


# Opens a file that is there, writes all of it anew and says so, waits for a line, and prints what close said.
HOLD = """
import errno, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(fd, b"m" * int(sys.argv[2]))
print("written", flush=True)
sys.stdin.readline()
try:
    os.close(fd)
    print("closed")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
HELD_BYTES = 200_000


@pytest.mark.timeout(200)
def test_an_object_that_is_replaced_deleted_or_made_again_while_it_is_written(
    disk_path: Path, bucket: Bucket, full_length: bool, promise: Keep
) -> None:
    """By bytes of the same length, within the same second: the writer is told ESTALE, and the store keeps what it has."""
    rounds = 20 if full_length else 2
    told: list[str] = []
    with bucket.mounted(disk_path, ttl="0s") as mounted:
        for round_ in range(rounds):
            for how in ("replaced", "deleted", "made again"):
                name, theirs = f"{how}-{round_}", os.urandom(HELD_BYTES)
                bucket.store.write(name, b"b" * HELD_BYTES)
                with subprocess.Popen(
                    [sys.executable, "-c", HOLD, name, str(HELD_BYTES)],
                    cwd=mounted.mountpoint,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                ) as writer:
                    try:
                        assert writer.stdout is not None
                        assert writer.stdout.readline() == "written\n"
                        if how != "replaced":
                            bucket.store.delete(name)
                        if how != "deleted":
                            bucket.store.write(name, theirs)
                        told.append(writer.communicate("\n", timeout=60)[0].strip())
                    finally:
                        writer.kill()
                if how == "deleted":
                    assert name not in bucket.store.names()
                else:
                    assert bucket.store.read(name) == theirs
        kept = mounted.status()["kept_files"]
    assert set(told) == {"ESTALE"}, told
    assert kept == 3 * rounds
    promise(
        "11w",
        "an object is replaced by as many bytes in the same second, deleted, or made again while it is written here",
        f"{len(told)} times: {len(told)} × ESTALE at close, {kept} kept for fusecache recover, 0 overwritten",
        "ESTALE, both kept, 0 overwritten",
    )


@pytest.mark.timeout(100)
def test_credentials_that_may_only_read(disk_path: Path, bucket: Bucket) -> None:
    """EACCES, and what was written is kept."""
    mounted = bucket.mounted(disk_path)
    mounted.environment |= {"AWS_ACCESS_KEY_ID": READER.access_key, "AWS_SECRET_ACCESS_KEY": READER.secret_key}
    done = mounted.mount(check=False)
    if done.returncode:  # it is found out by the check of the writer already
        assert done.returncode == 4, done.stderr
        return
    try:
        assert write_below(mounted, "file", 1000) == "EACCES"
        assert mounted.status()["pending_files"] == 1
        assert bucket.store.names() == set()
    finally:
        mounted.close()
