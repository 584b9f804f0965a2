"""Writing back: close returns before the store has the bytes, and nothing that was acknowledged is lost."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_plan import Fault, Gone, Plan
from tests.support.fault_proxy import FaultProxy
from tests.support.mounted import Mounted, kill, wait_until
from tests.support.plain_store import PlainStore
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SOON_SECONDS = 20.0


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as store:
        S3Bucket(store.endpoint_url, "back", ADMIN.access_key, ADMIN.secret_key).create().close()
        yield store


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.endpoint_url) as proxy:
        yield proxy


class Place:
    """A mount that writes back, and its store, looked at without the mount."""

    def __init__(self, base: Path, proxy: FaultProxy, seaweed: Seaweed) -> None:
        url = f"s3://back/{os.urandom(4).hex()}"
        keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        self.store = PlainStore(url, {"endpoint_url": seaweed.endpoint_url, **keys})
        self.mounted = Mounted(
            base,
            [url],
            options={"endpoint_url": proxy.url, "deadline": "3s", "write_mode": "back", "write_back_delay": "500ms"},
            arguments=["--read-write"],
            environment={"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key},
        )
        self.root = self.mounted.mountpoint

    def end_everything(self) -> None:
        """SIGKILL to all daemons at once, as the end of a container does."""
        record = self.mounted.record()
        for process in (record.supervisor, record.fetch, *record.serve, *record.spares):
            if process is not None:
                kill(process.pid)
        self.mounted.close()

    def recover(self, *arguments: str, check: bool = True) -> str:
        return self.mounted.run("recover", *arguments, check=check).stdout

    def pending(self) -> int:
        return int(self.mounted.status()["pending_files"])


@pytest.fixture
def place(disk_path: Path, proxy: FaultProxy, seaweed: Seaweed) -> Iterator[Place]:
    place = Place(disk_path, proxy, seaweed)
    with place.mounted:
        yield place
    place.store.close()


def test_close_does_not_wait_for_the_store(place: Place, proxy: FaultProxy) -> None:
    (place.root / "dir").mkdir()
    (place.root / "known").write_bytes(b"before")
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    proxy.set_plan(Plan(gone=Gone.STALL))
    began = time.monotonic()
    data = random.Random(1).randbytes(3_000_000)
    for name in ("one", "dir/two", "known"):
        with open(place.root / name, "r+b" if name == "known" else "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    assert time.monotonic() - began < 8, "the store answers nothing"
    assert (place.root / "one").read_bytes() == data
    status = place.mounted.status()
    assert (status["write_mode"], status["pending_files"], status["pending_bytes"]) == ("back", 3, 9_000_000)
    assert "not in the store yet: 3 files" in place.mounted.run("status", str(place.root)).stdout
    assert sum("waits to be uploaded" in line for line in place.recover().splitlines() if place.store.url in line) == 3
    assert place.mounted.metrics()["fusecache_pending_files"] == 3
    proxy.set_plan(Plan())
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    assert [place.store.read(name) for name in ("one", "dir/two", "known")] == [data] * 3
    assert place.store.url not in place.recover()


def test_umount_waits_for_the_store(place: Place, proxy: FaultProxy) -> None:
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    data = random.Random(2).randbytes(300_000)
    (place.root / "file").write_bytes(data)
    command = [*place.mounted.command("umount", str(place.root))]
    ending = subprocess.Popen(command, env=place.mounted.environment, stderr=subprocess.PIPE, text=True)
    assert ending.stderr is not None
    assert "waiting until 1 files (292.97KiB) are uploaded" in ending.stderr.readline()
    assert not place.mounted.is_mounted()
    proxy.set_plan(Plan())
    assert ending.wait(timeout=SOON_SECONDS) == 0
    ending.stderr.close()
    assert place.store.read("file") == data


@pytest.mark.parametrize("way", ["lazily", "by death", "by death, and the index is lost"])
def test_what_is_left_is_uploaded_by_the_next_mount(place: Place, proxy: FaultProxy, way: str) -> None:
    (place.root / "sub").mkdir()
    (place.root / "sub" / "known").write_bytes(b"before, and longer")
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    data = random.Random(3).randbytes(100_000)
    (place.root / "temporary").write_bytes(data)
    (place.root / "temporary").rename(place.root / "file")
    (place.root / "removed").write_bytes(b"x")
    (place.root / "removed").unlink()
    with open(place.root / "sub" / "known", "r+b") as file:
        file.write(b"after")
    os.chmod(place.root / "file", 0o640)
    if way == "lazily":
        place.mounted.umount("--lazy")
        assert sum("is uploaded by the next mount" in line for line in place.recover().splitlines()) == 2
    else:
        place.end_everything()
    if "index" in way:
        for boot_id in (place.mounted.base / "cache").glob("fusecache/*/boot_id"):
            boot_id.write_text("another")
    proxy.set_plan(Plan())
    place.mounted.mount()
    assert sorted(os.listdir(place.root)) == ["file", "sub"]
    assert (place.root / "file").read_bytes() == data
    assert (place.root / "file").stat().st_mode & 0o777 == 0o640
    place.mounted.umount()
    assert place.store.read("file") == data
    assert place.store.read("sub/known") == b"after" + b"before, and longer"[5:]
    assert place.store.names() == {"file", "sub/"}


def test_acknowledged_bytes_are_not_cut_off_before_they_are_in_the_store(place: Place, proxy: FaultProxy) -> None:
    """What comes after the cut may never be acknowledged: the store has to have what was, first."""
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    (place.root / "file").write_bytes(b"acknowledged")
    with pytest.raises(OSError) as caught:
        (place.root / "file").write_bytes(b"new")
    assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
    assert (place.root / "file").read_bytes() == b"acknowledged"
    proxy.set_plan(Plan())
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    (place.root / "file").write_bytes(b"new")
    place.mounted.umount()
    assert place.store.read("file") == b"new"


def test_sigterm_waits_for_the_store(place: Place, proxy: FaultProxy) -> None:
    """As the end of a pod does; a second signal would leave it to the next mount."""
    (place.root / "file").write_bytes(b"data")
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    (place.root / "late").write_bytes(b"late data")
    supervisor = place.mounted.pid("supervisor")
    os.kill(supervisor, signal.SIGTERM)
    assert wait_until(lambda: not place.mounted.is_mounted(), SOON_SECONDS)
    time.sleep(1.0)
    assert is_alive(supervisor)
    proxy.set_plan(Plan())
    assert wait_until(lambda: not is_alive(supervisor), SOON_SECONDS)
    assert (place.store.read("file"), place.store.read("late")) == (b"data", b"late data")


def test_a_second_signal_leaves_it_to_the_next_mount(place: Place, proxy: FaultProxy) -> None:
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    (place.root / "file").write_bytes(b"data")
    supervisor = place.mounted.pid("supervisor")
    os.kill(supervisor, signal.SIGTERM)
    assert wait_until(lambda: not place.mounted.is_mounted(), SOON_SECONDS)
    os.kill(supervisor, signal.SIGTERM)
    assert wait_until(lambda: not is_alive(supervisor), SOON_SECONDS)
    proxy.set_plan(Plan())
    place.mounted.mount()
    place.mounted.umount()
    assert place.store.read("file") == b"data"


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def refusal(path: Path, data: bytes) -> int:
    """Return the errno that writing a file ended with, 0 if it did not."""
    try:
        path.write_bytes(data)
    except OSError as error:
        return error.errno or -1
    return 0


def test_a_quota_of_what_is_written(disk_path: Path, proxy: FaultProxy, seaweed: Seaweed) -> None:
    """ENOSPC at write; what was acknowledged is uploaded, and then there is room again."""
    place = Place(disk_path, proxy, seaweed)
    place.mounted.options["stage_quota"] = "16Mi"
    with place.mounted:
        proxy.set_plan(Plan(gone=Gone.REFUSE))
        data = random.Random(4).randbytes(4 << 20)
        written = 0
        while written < 20 and not (error := refusal(place.root / f"file{written}", data)):
            written += 1
            time.sleep(0.3)
        assert error == errno.ENOSPC
        assert 3 <= written <= 5
        proxy.set_plan(Plan())
        assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
        (place.root / "after").write_bytes(data)
        place.mounted.umount()
    assert [place.store.read(f"file{number}") for number in range(written)] == [data] * written
    assert place.store.read("after") == data
    place.store.close()


def test_a_conflict_is_kept_and_can_be_recovered(place: Place, proxy: FaultProxy, disk_path: Path) -> None:
    for name in ("whole", "part"):
        (place.root / name).write_bytes(b"first")
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    (place.root / "new").write_bytes(b"ours")
    with open(place.root / "part", "r+b") as file:
        file.seek(8000)
        file.write(b"ours")
    for name in ("new", "part"):
        place.store.write(name, b"somebody else's")
    proxy.set_plan(Plan())
    assert wait_until(lambda: place.mounted.status()["kept_files"] == 2, SOON_SECONDS)
    assert place.store.read("new") == b"somebody else's"
    assert "2 files that cannot be uploaded are kept in" in place.mounted.run("status", str(place.root)).stdout
    kept = {one["path"]: one for one in json.loads(place.recover("--json")) if one["source"] == place.store.url}
    assert kept["new"]["bytes"] == 4
    assert "is there already" in kept["new"]["reason"]
    place.recover("save", kept["new"]["name"], str(disk_path / "saved"))
    assert (disk_path / "saved").read_bytes() == b"ours"
    refused = place.mounted.run("recover", "save", kept["part"]["name"], str(disk_path / "saved2"), check=False)
    assert refused.returncode == 2
    assert "--partial" in refused.stderr
    assert not (disk_path / "saved2").exists()
    place.recover("save", "--partial", kept["part"]["name"], str(disk_path / "saved2"))
    assert (disk_path / "saved2").read_bytes()[8000:] == b"ours"
    place.recover("retry", kept["new"]["name"], str(place.root))
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    assert place.store.read("new") == b"ours"
    place.recover("drop", kept["part"]["name"])
    assert not [one for one in json.loads(place.recover("--json")) if one["name"] == kept["part"]["name"]]
    assert place.mounted.run("recover", "drop", "nothing", check=False).returncode == 3


def lose_answers(proxy: FaultProxy, place: Place, name: str) -> None:
    """The store takes what is put there, and its answers are lost."""
    key = place.store.url.rpartition("/")[2]
    proxy.set_plan(Plan.evenly(1.0, Fault.LOST, match=f"^PUT /back/{key}/{name}$", most_in_a_row=0))


def test_an_upload_without_an_answer_and_other_bytes_after_it(place: Place, proxy: FaultProxy) -> None:
    """What the store has is older than the file, and ours: it is replaced, and is not a conflict."""
    lose_answers(proxy, place, "file")
    data = random.Random(5).randbytes(60_000)
    (place.root / "file").write_bytes(data)
    assert wait_until(lambda: "file" in place.store.names(), SOON_SECONDS)
    time.sleep(3.5)  # fetch asks until its deadline
    with open(place.root / "file", "r+b") as file:
        file.write(b"changed")
    proxy.set_plan(Plan())
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    assert place.store.read("file") == b"changed" + data[7:]
    assert place.mounted.status()["kept_files"] == 0


def test_a_rename_over_an_upload_without_an_answer(place: Place, proxy: FaultProxy) -> None:
    lose_answers(proxy, place, "file")
    (place.root / "file").write_bytes(b"first")
    assert wait_until(lambda: "file" in place.store.names(), SOON_SECONDS)
    (place.root / "temporary").write_bytes(b"second")
    (place.root / "temporary").rename(place.root / "file")
    proxy.set_plan(Plan())
    assert wait_until(lambda: place.pending() == 0, SOON_SECONDS)
    assert place.store.read("file") == b"second"
    assert place.mounted.status()["kept_files"] == 0
    assert place.store.names() == {"file"}


def test_an_upload_without_an_answer_before_the_index_is_lost(place: Place, proxy: FaultProxy) -> None:
    """The next mount finds an older version of the file in the store, which is ours."""
    lose_answers(proxy, place, "file")
    data = random.Random(6).randbytes(60_000)
    (place.root / "file").write_bytes(data)
    assert wait_until(lambda: "file" in place.store.names(), SOON_SECONDS)
    with open(place.root / "file", "r+b") as file:
        file.write(b"changed")
    place.end_everything()
    for boot_id in (place.mounted.base / "cache").glob("fusecache/*/boot_id"):
        boot_id.write_text("another")
    proxy.set_plan(Plan())
    place.mounted.mount()
    assert place.mounted.status()["kept_files"] == 0
    place.mounted.umount()
    assert place.store.read("file") == b"changed" + data[7:]
