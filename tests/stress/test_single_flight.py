"""Two hundred readers want one object that nobody has read: the store sees each byte once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy, Plan
from tests.support.mounted import Mounted, kill
from tests.support.seaweed import Seaweed
from tests.support.stored_truth import environment, upload

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

PROGRAM = Path(__file__).parent.parent / "support" / "crowd.py"
READERS = 200
OBJECT = "/crowd/object"
# What a fetch process that dies may have asked for and not yet made known: the widest read-ahead and one range for each of the
# requests that may run at once (16) beyond it.
SURPLUS_BOUND = (32 << 20) + 16 * (1 << 20)


@pytest.fixture(scope="module")
def truth(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    directory = tmp_path_factory.mktemp("crowd")
    size = (50 << 20) if pytestconfig.getoption("--full-length") else (20 << 20)
    (directory / "object").write_bytes(random.Random(1).randbytes(size + 12_345))
    upload(seaweed, "crowd", directory)
    return directory / "object"


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.endpoint_url, Plan(bandwidth_bytes_per_second=40 << 20)) as opened:
        yield opened


def start_crowd(mounted: Mounted, truth: Path, *, spread: bool, readers: int) -> subprocess.Popen[bytes]:
    job = {"path": str(mounted.mountpoint / "object"), "truth": str(truth), "readers": readers, "spread": spread}
    return subprocess.Popen([sys.executable, str(PROGRAM), json.dumps(job)], stdout=subprocess.PIPE)


def collect(crowd: subprocess.Popen[bytes]) -> dict[str, Any]:
    try:
        out, _ = crowd.communicate(timeout=110)
        result: dict[str, Any] = json.loads(out)
        return result
    finally:
        crowd.kill()
        crowd.wait()


@pytest.mark.parametrize("access", ["openless", "passthrough"])
@pytest.mark.parametrize("spread", [False, True], ids=["from-the-start", "from-everywhere"])
def test_each_byte_is_fetched_once(
    disk_path: Path,
    promise: Callable[[str, str, str, str], None],
    truth: Path,
    proxy: FaultProxy,
    access: str,
    spread: bool,
    full_length: bool,
) -> None:
    if not full_length and (access == "passthrough") != spread:
        pytest.skip("the other combinations run with --full-length")
    readers = READERS if full_length or not spread else READERS // 4
    mounted = Mounted(disk_path, ["s3://crowd"], environment=environment(proxy.url), options={"access": access})
    with mounted:
        proxy.reset()
        seen = collect(start_crowd(mounted, truth, spread=spread, readers=readers))
    sent = proxy.counts().bytes[f"GET {OBJECT}"]
    twice = proxy.bytes_fetched_twice(OBJECT)
    size = truth.stat().st_size
    promise(
        "31" + {(False, False): "", (True, True): "b", (True, False): "c", (False, True): "d"}[spread, access == "passthrough"],
        f"{seen['readers']} cold readers of one object at once ({access}{', each from another place' if spread else ''})",
        f"{seen['reads']} reads, {seen['wrong']} wrong, {sum(seen['errors'].values())} failed; the store sent {sent} bytes of an "
        f"object of {size}, {twice} of them twice",
        "each byte once; 0 failed, 0 wrong",
    )
    assert not seen["errors"]
    assert not seen["wrong"]
    assert seen["bytes"] == readers * size
    assert sent == size
    assert twice == 0


def test_fetch_is_killed_in_the_middle(
    disk_path: Path,
    promise: Callable[[str, str, str, str], None],
    truth: Path,
    proxy: FaultProxy,
    full_length: bool,
) -> None:
    readers = READERS if full_length else READERS // 4
    with Mounted(disk_path, ["s3://crowd"], environment=environment(proxy.url), options={"access": "openless"}) as mounted:
        proxy.reset()
        proxy.set_plan(Plan(bandwidth_bytes_per_second=20 << 20))
        fetch = mounted.pid("fetch")
        crowd = start_crowd(mounted, truth, spread=False, readers=readers)
        try:
            wait_for_bytes(proxy, 6 << 20)
            assert kill(fetch)
            seen = collect(crowd)
        finally:
            crowd.kill()
            crowd.wait()
        restarts = mounted.status()["restarts"]
    sent = proxy.counts().bytes[f"GET {OBJECT}"]
    size = truth.stat().st_size
    promise(
        "31e",
        f"fetch killed once under {seen['readers']} cold readers of one object",
        f"{seen['reads']} reads, {seen['wrong']} wrong, {sum(seen['errors'].values())} failed; the store sent {sent} bytes of an "
        f"object of {size}: {sent - size} more than once",
        f"0 failed, 0 wrong; at most what was under way ({SURPLUS_BOUND >> 20} MiB) more than once",
    )
    assert restarts >= 1
    assert not seen["errors"]
    assert not seen["wrong"]
    assert seen["bytes"] == readers * size
    assert 0 <= sent - size <= SURPLUS_BOUND


def wait_for_bytes(proxy: FaultProxy, count: int) -> None:
    """Return once the store has sent so much of the object."""
    deadline = time.monotonic() + 30
    while proxy.counts().bytes.get(f"GET {OBJECT}", 0) < count:
        assert time.monotonic() < deadline, "the crowd did not get going"
        time.sleep(0.02)
