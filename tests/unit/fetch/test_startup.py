"""When an index is trusted: every row of the table in fusecache/fetch/startup.py, and every way to damage what is on disk."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.mount_spec import Medium, MountSpec, TierSpec
from fusecache.contract.run_files import BOOT_ID, CLEAN_MARKER, INDEX_DIR
from fusecache.contract.shared_memory import H_EPOCH, H_NEXT_INODE, PAGE
from fusecache.fetch import lost_containers, startup
from fusecache.index.containers import Container
from fusecache.index.inodes import ROOT
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import FetchHarness, spec_of
from tests.support.index_check import containers_on_disk
from tests.support.log_check import LogCheck

DROPPED = "the cache index is dropped and built again"
BLOCK = 4096  # real pages: the sizes decide which tier a file goes to
FILES = {f"f{number}": content(f"f{number}", size) for number, size in enumerate([3, BLOCK, 5 * BLOCK])}
QUOTA = 1 << 20


class Life:
    """A mount over two lives: the first fills the cache, the second finds what the test left of it."""

    def __init__(self, path: Path) -> None:
        self.source = FakeSource()
        for name, data in FILES.items():
            self.source.put(name, data)
        # The first tier takes what fits: the last file is larger than 0.9 of it, so it lies in the second.
        self.spec = spec_of(path, 4 * PAGE, QUOTA, ttl_seconds=1e6, block_size_bytes=BLOCK, granule_size_bytes=1024)
        self.harness = FetchHarness(self.spec, self.source, keep_whole=True)
        self.state = Path(self.spec.state_dir)

    def fill(self, *, clean: bool) -> None:
        self.harness.start()
        reader = self.harness.reader()
        self._read(reader)
        assert {extent.tier for extent in self._extents()} == {0, 1}
        self.epoch, self.next_inode = self._meta("epoch"), self._meta("next_inode")
        self.harness.rest()
        self.harness.stop() if clean else self.harness.kill()

    def again(self, *, fresh_connection: bool = True, **spec: Any) -> int:
        """Start once more, read everything, check everything; return how many bytes came from the store."""
        self.harness.with_spec(**spec)
        before = self.source.bytes_read
        self.harness.start(fresh_connection=fresh_connection)
        self._read(self.harness.reader())
        self.harness.check()
        return self.source.bytes_read - before

    def reboot(self) -> None:
        (self.state / BOOT_ID).write_text("another boot")

    def new_connection(self) -> None:
        """Custody's memory of a new FUSE connection is empty."""
        self.harness._memory[:] = bytes(len(self.harness._memory))

    def _read(self, reader: CacheReader) -> None:
        for name, data in FILES.items():
            assert reader.read_file(name.encode()) == data

    def _extents(self) -> list[Any]:
        with self.harness.index.read() as txn:
            return [extent for _, _, extent in self.harness.index.extents.iterate(txn)]

    def _meta(self, key: str) -> int:
        with self.harness.index.read() as txn:
            return self.harness.index.meta.get(txn, key)

    def containers(self) -> list[Container]:
        with self.harness.index.read() as txn:
            return [row for _, row in self.harness.index.containers.iterate(txn)]


@pytest.fixture
def life(tmp_path: Path) -> Any:
    made = Life(tmp_path)
    yield made
    made.harness.close()


ALL = sum(len(data) for data in FILES.values())
IN_MEMORY = len(FILES["f0"]) + len(FILES["f1"])


# -- the table


@pytest.mark.parametrize("clean", [True, False])
def test_same_boot_everything_is_trusted(life: Life, clean: bool) -> None:
    life.fill(clean=clean)
    assert life.again() == 0
    assert life._meta("epoch") == life.epoch
    assert any(row.written_ns for row in life.containers())


def test_a_start_that_is_killed_takes_no_boot_for_another(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetch that was killed while it said which boot this is left no text there, and its successor dropped the index under its
    readers."""

    class KilledError(Exception):
        pass

    def killed(path: Path, text: str) -> None:
        path.open("w").close()
        raise KilledError

    life.fill(clean=False)
    note = life.state / "note"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with contextlib.suppress(KilledError):
            startup._store(life.state / BOOT_ID, startup._boot_id())
        note.write_bytes(b"old")
        with pytest.raises(KilledError):
            startup._store(note, "new")
    assert note.read_text() == "old"
    assert life.again() == 0
    assert life._meta("epoch") == life.epoch


def test_other_boot_with_a_clean_marker_loses_what_was_in_memory(life: Life) -> None:
    life.fill(clean=True)
    life.reboot()
    life.new_connection()
    assert life.again() == IN_MEMORY
    assert life._meta("epoch") == life.epoch
    assert not any(row.written_ns for row in life.containers() if row.tier == 1)  # verified again before hand-over


def test_other_boot_without_a_marker_loses_everything(life: Life, expect_log: LogCheck) -> None:
    expect_log(f"{DROPPED}: the machine stopped without a clean stop")
    life.fill(clean=False)
    life.reboot()
    life.new_connection()
    assert life.again() == ALL
    assert life._meta("epoch") != life.epoch


def test_the_marker_is_good_for_one_start(life: Life, expect_log: LogCheck) -> None:
    expect_log(DROPPED)
    life.fill(clean=True)
    assert (life.state / CLEAN_MARKER).exists()
    life.again()
    assert not (life.state / CLEAN_MARKER).exists()
    life.harness.kill()
    life.reboot()
    life.new_connection()
    assert life.again() == ALL


def test_dropped_when_told_to(life: Life, expect_log: LogCheck) -> None:
    expect_log(f"{DROPPED}: told to")
    life.fill(clean=True)
    before = life.source.bytes_read
    life.harness.start(drop=True)
    life._read(life.harness.reader())
    life.harness.check()
    assert life.source.bytes_read - before == ALL


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda spec: {"block_size_bytes": 8192}, "another block size"),
        (lambda spec: {"granule_size_bytes": 2048}, "another block size"),
        (lambda spec: {"tiers": spec.tiers[::-1]}, "other tiers"),
        (lambda spec: {"tiers": spec.tiers[1:]}, "other tiers"),
        (lambda spec: {"tiers": (replace(spec.tiers[0], medium=Medium.HDD), spec.tiers[1])}, "other tiers"),
        (lambda spec: {"tiers": (*spec.tiers, TierSpec(spec.tiers[0].path + "x", Medium.HDD, QUOTA))}, "other tiers"),
    ],
)
def test_an_index_of_another_geometry_or_other_tiers_is_dropped(
    life: Life, change: Callable[[MountSpec], dict[str, Any]], reason: str, expect_log: LogCheck
) -> None:
    expect_log(f"{DROPPED}: .*{reason}")
    life.fill(clean=True)
    assert life.again(**change(life.spec)) == ALL


@pytest.mark.parametrize("factor", [2, 8])
def test_another_quota_keeps_what_fits(life: Life, factor: int) -> None:
    life.fill(clean=True)
    tiers = tuple(replace(tier, quota_bytes=tier.quota_bytes * factor) for tier in life.spec.tiers)
    assert life.again(tiers=tiers) == 0


def test_a_smaller_quota_is_kept_after_a_while(life: Life) -> None:
    life.fill(clean=True)
    life.harness.with_spec(tiers=(life.spec.tiers[0], replace(life.spec.tiers[1], quota_bytes=2 * PAGE)))
    life.harness.start()
    life.harness.rest()
    life._read(life.harness.reader())
    life.harness.check()


# -- one FUSE connection


def test_within_a_connection_the_same_inodes_go_on(life: Life) -> None:
    life.fill(clean=False)
    assert life.again(fresh_connection=False) == 0
    assert life._meta("epoch") == life.epoch


@pytest.mark.parametrize("what", ["epoch", "next inode"])
def test_an_index_older_than_what_readers_saw_is_dropped(life: Life, what: str, expect_log: LogCheck) -> None:
    expect_log(f"{DROPPED}: it is older than what readers")
    life.fill(clean=False)
    memory = life.harness._memory
    if what == "epoch":
        memory[H_EPOCH : H_EPOCH + 8] = (life.epoch % 0xFFFF + 1).to_bytes(8, "little")
    else:
        memory[H_NEXT_INODE : H_NEXT_INODE + 8] = (life.next_inode + 1).to_bytes(8, "little")
    assert life.again(fresh_connection=False) == ALL
    assert int.from_bytes(memory[H_EPOCH : H_EPOCH + 8], "little") == life._meta("epoch") != life.epoch


def test_numbers_of_a_dropped_index_are_never_given_out_again(life: Life, expect_log: LogCheck) -> None:
    expect_log(DROPPED)
    life.fill(clean=True)
    with_numbers = {life.epoch}
    containers = set(containers_on_disk(Path(life.spec.tiers[1].path)))
    for _ in range(3):
        life.harness.start(drop=True)
        life._read(life.harness.reader())
        assert life._meta("epoch") not in with_numbers
        with_numbers.add(life._meta("epoch"))
        fresh = set(containers_on_disk(Path(life.spec.tiers[1].path)))
        assert not fresh & containers
        containers |= fresh
        life.harness.kill()


def test_a_dropped_index_without_a_connection_still_gets_another_epoch(life: Life, expect_log: LogCheck) -> None:
    expect_log(DROPPED, at_least=0)
    life.fill(clean=True)
    life.new_connection()
    shutil.rmtree(life.state / INDEX_DIR)
    assert life.again() == ALL
    assert life._meta("epoch") == life.epoch % 0xFFFF + 1


# -- damage


def _noise(path: Path) -> None:
    data = bytearray(path.read_bytes())
    generator = random.Random(7)
    for _ in range(len(data) // 50):
        data[generator.randrange(len(data))] = generator.randrange(256)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "all noise": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "some noise": _noise,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: os.truncate(path, 0),
    "one page": lambda path: os.truncate(path, 4096),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "deleted": lambda path: path.unlink(),
}

PROGRAM = """
import mmap, sys
from pathlib import Path
from fusecache.contract.mount_spec import MountSpec
from fusecache.fetch import startup
from fusecache.index.sealed import IndexDamagedError
from fusecache.tiers.tier import Tier
spec = MountSpec.load(sys.argv[1])
tiers = [Tier(number, tier, tier.quota_bytes) for number, tier in enumerate(spec.tiers)]
try:
    index = startup.open_index(spec, tiers, mmap.mmap(-1, 4096), drop=sys.argv[2] == "drop")
    with index.read() as txn:
        for table in (index.containers, index.extents, index.dirs):
            list(table.iterate(txn))
except IndexDamagedError:
    sys.exit(86)
"""


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_noticed_or_dropped_and_the_next_start_works(life: Life, damage: str, tmp_path: Path) -> None:
    """Noise in a mapped file may end the process with a signal: the supervisor then starts the next one with drop."""
    life.fill(clean=True)
    DAMAGES[damage](life.state / INDEX_DIR / "data.mdb")
    spec_file = tmp_path / "spec.json"
    spec_file.write_text(life.spec.to_json())
    ends = []
    for drop in ("keep", "drop"):
        ran = subprocess.run([sys.executable, "-c", PROGRAM, str(spec_file), drop], capture_output=True, timeout=60, check=False)
        ends.append(ran.returncode)
    assert ends[0] in (0, 86) or ends[0] < 0, ran.stderr
    assert ends[1] == 0, ran.stderr
    life.new_connection()
    assert life.again() == ALL


def test_a_state_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OSError):
        startup.open_index(spec_of(tmp_path, QUOTA), [], mmap.mmap(-1, PAGE), drop=False)


# -- what the last life left


@pytest.mark.parametrize("same_connection", [True, False])
def test_orphans_live_as_long_as_the_connection_that_may_know_them(life: Life, same_connection: bool) -> None:
    life.fill(clean=False)
    life.source.put("f1", b"new")
    life.harness.with_spec(ttl_seconds=0.0)
    life.harness.start()
    reader = life.harness.reader()
    old = reader.inode(b"f2")
    life.source.put("f2", b"newer")
    assert reader.read_file(b"f2") == b"newer"
    life.harness.kill()
    life.harness.start(fresh_connection=not same_connection)
    with life.harness.index.read() as txn:
        assert (life.harness.index.inodes.get(txn, old) is not None) == same_connection
        assert any(True for _ in life.harness.index.extents.of_inode(txn, old)) == same_connection
        assert life.harness.index.inodes.get(txn, ROOT) is not None
    life.harness.check()


def test_what_a_crash_left_on_the_disk_is_given_back(life: Life) -> None:
    life.fill(clean=False)
    tier = life.harness.tiers[1]
    tier_path = Path(tier.path)
    stray = tier_path / "c" / "77" / "000000000077"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"a container that no row names")
    segment = next(Path(life.spec.tiers[0].path).glob("c/*/*"))
    with segment.open("r+b") as file:  # bytes that were written and never committed, behind and between the blocks
        file.seek(0, 2)
        file.write(bytes(range(256)) * 64)
    whole = next(path for path in tier_path.glob("c/*/*") if path != stray)
    life.again()
    assert not stray.exists()
    assert whole.exists()
    assert life.harness.tiers[0].allocated_bytes(int(segment.name, 16)) <= life.harness.tiers[0].used_bytes


@pytest.mark.parametrize("what", ["a tier", "every container of one", "one container"])
def test_what_was_removed_from_a_tier_meanwhile_does_not_count_as_cached(
    life: Life, what: str, expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("containers of the cache are gone")
    monkeypatch.setattr(lost_containers, "BATCH_BLOCKS", 2)
    monkeypatch.setattr(lost_containers, "_SCANNED_ROWS", 3)
    life.fill(clean=True)
    total = sum(len(data) for data in FILES.values())
    if what == "one container":
        large = FILES["f2"]
        (path,) = [path for path in Path(life.spec.tiers[1].path).glob("c/*/*") if path.stat().st_size == len(large)]
        path.unlink()
        left = total - len(large)
    else:
        path = Path(life.spec.tiers[1].path)
        shutil.rmtree(path / "c" if what == "every container of one" else path)
        left = total - len(FILES["f2"])
    life.harness.start()
    life.harness.rest()
    assert life.harness.cache.store.cached_bytes == left
    life._read(life.harness.reader())
    life.harness.check()


def test_foreign_files_in_a_tier_are_left_alone(life: Life) -> None:
    life.fill(clean=False)
    letter = Path(life.spec.tiers[1].path) / "c" / "letter"
    letter.parent.mkdir(exist_ok=True)
    letter.write_text("not a container")
    (letter.parent / "00").mkdir(exist_ok=True)
    (letter.parent / "00" / "not-hex").write_text("x")
    life.harness.start()
    life.harness.rest()
    assert letter.exists()
    assert (letter.parent / "00" / "not-hex").exists()
    (letter.parent / "00" / "not-hex").unlink()
