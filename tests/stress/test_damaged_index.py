"""The index file is deleted, cut or filled with noise, under a mount and between two: no byte is wrong (figure 8)."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stress.conftest import make_files
from tests.support.cache_tampering import CacheTampering, drop_page_cache
from tests.support.mounted import Mounted, kill, wait_until
from tests.support.readers import Readers

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

MODES = ["random", "random", "sequential", "walk"]
HARMS = ["deleted", "cut", "noise", "noise everywhere"]
IN_SHORT = [("deleted", "mounted"), ("cut", "unmounted"), ("noise", "mounted"), ("noise everywhere", "unmounted")]


def do_harm(path: Path, harm: str) -> int:
    """Return how many bytes were changed or are gone."""
    size = path.stat().st_size
    if harm == "deleted":
        path.unlink()
        return size
    with path.open("r+b") as file:
        if harm == "cut":
            file.truncate(size // 3 // 4096 * 4096)
            return size - size // 3
        source = random.Random(4)
        begin = 8192 if harm == "noise" else 0  # LMDB keeps its two meta pages before
        file.seek(begin)
        file.write(source.randbytes(size - begin))
        return size - begin


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("moment", ["mounted", "unmounted"])
def test_an_index_that_is(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], harm: str, moment: str
) -> None:
    """A mounted index that was deleted is noticed when fetch is started again, so it is killed."""
    if not full_length and (harm, moment) not in IN_SHORT:
        pytest.skip("runs with --full-length")
    truth = disk_path / "truth"
    make_files(truth, small=150, large=2, large_bytes=5 << 20)
    mounted = Mounted(disk_path, [f"file://{truth}"], options={"ttl": "3600"})
    with mounted:
        mounted.run("warm", str(mounted.mountpoint))
        index_file = CacheTampering(mounted).index_file
        if moment == "mounted":
            readers = Readers(mounted.mountpoint, truth, 8.0 if full_length else 2.5, MODES, drop_caches=0.01)
            try:
                changed = do_harm(index_file, harm)
                drop_page_cache()
                if harm == "deleted":
                    assert kill(mounted.pid("fetch"))
                seen = readers.collect()
            finally:
                readers.kill()
            during = f"meanwhile {seen.reads} reads, {seen.wrong} wrong, errors {dict(seen.errors)}, {seen.hung} hung; "
            assert not seen.wrong, seen.examples
            assert not seen.hung
            assert set(seen.errors) <= {"ESTALE"}, seen.examples
        else:
            mounted.umount()
            changed, during = do_harm(index_file, harm), ""
            mounted.mount()
        assert wait_until(lambda: is_right(mounted, truth), 15.0), mounted.log()[-3000:]
        rebuilt = "dropped and built again" in mounted.log() or harm == "deleted"
        after = Readers(mounted.mountpoint, truth, 1.5, MODES, drop_caches=0.01)
        seen_after = after.collect()
    promise(
        f"8{'ghij'[HARMS.index(harm)]}" + ("u" if moment == "unmounted" else ""),
        f"index {harm}, {moment} ({changed >> 10} KiB)",
        f"{during}afterwards {seen_after.reads} reads: {seen_after.failed} failed, {seen_after.wrong} wrong",
        "0 wrong; ESTALE at most for what was open at that moment",
    )
    assert rebuilt, "nobody noticed the damage: the run proves nothing"
    seen_after.assert_clean()


def is_right(mounted: Mounted, truth: Path) -> bool:
    done = subprocess.run(["timeout", "-s", "KILL", "60", "diff", "-r", str(truth), str(mounted.mountpoint)], capture_output=True)
    return done.returncode == 0
