"""Killing the serve process under verifying readers, over a real mount. The test process holds the descriptors, as custody
does."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fusecache.contract import shared_memory as shared
from fusecache.contract.shared_memory import ENTRY_BYTES, ENTRY_HEADER, U64, Counter
from fusecache.fuse.native.protocol import InitFlag
from tests.fuse.native_mount import NativeMount, native_mount

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.alone]

_HERE = Path(__file__).parent
KINDS = ["buffered", "buffered", "direct", "direct", "names", "late", "late", "late"]
KILL_EVERY_SECONDS = 0.5


def read_while_killing(mount: NativeMount, seconds: float) -> tuple[int, list[dict[str, float]]]:
    """Run eight verifying readers, kill and restart every serve process in turn; return how many kills, and the readers'
    counts."""
    script = _HERE / "native_verifying_reader.py"
    readers = [mount.spawn_reader(script, kind, seed, seconds) for seed, kind in enumerate(KINDS)]
    kills = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end - KILL_EVERY_SECONDS:
        time.sleep(KILL_EVERY_SECONDS)
        index = kills % mount.layout.serve_count
        mount.kill(index)
        mount.start(index)
        kills += 1
    return kills, [json.loads(reader.communicate(timeout=30)[0]) for reader in readers]


@pytest.mark.parametrize(("serve_count", "resend"), [(1, True), (1, False), (2, False)], ids=["one", "one without RESEND", "two"])
def test_no_read_fails_when_serve_is_killed(
    tmp_path: Path,
    serve_count: int,
    resend: bool,
    capsys: pytest.CaptureFixture[str],
    full_length: bool,
    allowed: Callable[[float], float],
) -> None:
    seconds = 20.0 if full_length else 3.0
    with native_mount(tmp_path, serve_count=serve_count, settings={"ask_resend": resend}) as mount:
        has_resend = bool(U64.unpack_from(mount.memory, shared.H_INIT_FLAGS)[0] & InitFlag.HAS_RESEND)
        assert resend or not has_resend
        kills, counts = read_while_killing(mount, seconds)
        replayed = mount.counter(Counter.REPLAYED)
        reads, failed, wrong = (sum(int(count[key]) for count in counts) for key in ("reads", "failed", "wrong"))
        longest = max(count["longest"] for count in counts)
        with capsys.disabled():
            print(f"\n{kills} kills, {reads} reads, {failed} failed, {wrong} wrong, {replayed} replayed,", end=" ")
            print(f"longest wait {longest:.3f} s")
        assert failed == wrong == 0, counts
        assert kills >= seconds // 1
        assert replayed > 0, "no kill hit a request: nothing was shown"
        assert all(count["reads"] > 10 for count in counts)
        assert mount.counter(Counter.POISONED) == 0
        assert longest < allowed(2.0)  # 0.1-0.3 s on idle cores, most of it Python starting; the machine is shared


def test_resend_brings_back_what_lost_slots_held(tmp_path: Path) -> None:
    """The slots are wiped while serve is dead, as after a double death: only FUSE_NOTIFY_RESEND knows the requests."""
    with native_mount(tmp_path, late_seconds=0.5) as mount:
        if not U64.unpack_from(mount.memory, shared.H_INIT_FLAGS)[0] & InitFlag.HAS_RESEND:
            pytest.skip("FUSE_NOTIFY_RESEND needs Linux 6.9")
        code = "import os; print(os.stat('late/07').st_size)"
        reader = mount.spawn_reader("-c", code)
        while not mount.counter(Counter.REQUESTS) or _parked(mount) == 0:
            time.sleep(0.005)
        mount.kill()
        table = mount.layout.table(0)
        mount.memory[table : table + ENTRY_BYTES * mount.layout.table_entries] = bytes(ENTRY_BYTES * mount.layout.table_entries)
        mount.config["settings"] = {"resend": True}
        mount.start()
        assert reader.communicate(timeout=10)[0].strip() == b"300000"


def _parked(mount: NativeMount) -> int:
    table = mount.layout.table(0)
    return sum(ENTRY_HEADER.unpack_from(mount.memory, table + k * ENTRY_BYTES)[0] for k in range(mount.layout.table_entries))


def test_a_poisonous_request_kills_twice_and_then_fails(tmp_path: Path) -> None:
    with native_mount(tmp_path) as mount:
        code = "import errno\ntry:\n open('poison', 'rb').read()\nexcept OSError as e: print(errno.errorcode[e.errno])"
        reader = mount.spawn_reader("-c", code)
        deaths = 0
        while reader.poll() is None:
            try:
                mount.processes[0].wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
            deaths += 1
            mount.kill()
            mount.start(wait=False)  # dies of the replay, before it is ready
        assert reader.communicate()[0].strip() == b"EIO"
        # A failed read-ahead is read once more by the kernel, page by page: that is another request, with deaths of its own.
        assert deaths in (2, 4)
        assert mount.counter(Counter.POISONED) == deaths // 2
        assert mount.run_reader("import os; print(len(open('small/00004', 'rb').read()))").strip() == "100000"


def test_waiting_through_many_deaths_is_not_poison(tmp_path: Path) -> None:
    """A request that waits for a slow store while serve dies five times is answered in the end."""
    with native_mount(tmp_path, late_seconds=3600.0) as mount:
        code = "import os; print(os.stat('late/07').st_size)"
        reader = mount.spawn_reader("-c", code)
        while _parked(mount) == 0:
            time.sleep(0.005)
        for death in range(5):
            mount.kill()
            mount.config["late_seconds"] = 3600.0 if death < 4 else 0.01
            mount.start()
        assert reader.communicate(timeout=10)[0].strip() == b"300000"
        assert mount.counter(Counter.POISONED) == 0
