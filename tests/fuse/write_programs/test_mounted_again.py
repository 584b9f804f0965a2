"""What programs wrote is there when it is mounted again, with the same cache and with another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import saving_programs
from tests.support.plain_store import PlainStore
from tests.support.written_place import WrittenPlace, mount_place

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

FILES = ("find", ".", "-type", "f", "-printf", "%m %U:%G %s %T@ %P\\n")
DIRECTORIES = ("find", ".", "-mindepth", "1", "-type", "d", "-printf", "%m %U:%G %P\\n")
WRITE = """
mkdir -p dir/sub empty
echo one > one; chmod 600 one; touch -d '2001-02-03 04:05:06.789 UTC' one
echo two > dir/two; chmod 755 dir/two; chown 1234:2345 dir/two; touch -d '2002-02-03 UTC' dir/two
seq 200000 > dir/sub/large; chmod 640 dir/sub/large; touch -d '2003-02-03 04:05:06.123456789 UTC' dir/sub/large
: > dir/nothing
mv dir/two dir/moved; echo more >> one; touch -d '2004-02-03 UTC' one
echo old > replaced; cat replaced > /dev/null; echo new > new; mv new replaced
echo x > removed; rm removed
chmod 700 dir/sub
"""


def written_and_listed(place: WrittenPlace) -> tuple[dict[str, str], list[str]]:
    """The times of directories are not kept: names that come and go change them at the store only."""
    return place.seen(), sorted(place.run(*FILES).splitlines()) + sorted(place.run(*DIRECTORIES).splitlines())


def test_with_the_same_cache(store: PlainStore, disk_path: Path) -> None:
    """Names, bytes, modes, owners and times."""
    with mount_place(disk_path / "base", store) as mounted:
        place = WrittenPlace(mounted, store, "")
        place.shell(WRITE)
        before = written_and_listed(place)
        assert before[0] == place.stored()
        assert place.call(saving_programs.use_database, "wal", 200)["check"] == "ok"
        place.run("sync", "-f", ".")
        mounted.umount()
        stored = place.stored()
        mounted.mount()
        database = place.call(saving_programs.check_database, "wal")
        assert database == {"check": "ok", "count": 180, "changed": 20}
        place.run("rm", "wal.db")
        assert written_and_listed(place) == before
        assert {name: digest for name, digest in stored.items() if name != "wal.db"} == before[0]
        place.shell("echo again >> one; rm -r dir; mkdir dir; echo two > dir/two")
        place.assert_stored()
        mounted.umount()


def test_with_another_cache(store: PlainStore, disk_path: Path) -> None:
    """Names and bytes; of flat stores what their listings tell, so no modes, owners and times."""
    with mount_place(disk_path / "base", store) as mounted:
        place = WrittenPlace(mounted, store, "")
        place.shell(WRITE)
        before = written_and_listed(place)
        mounted.umount()
    shutil.rmtree(disk_path / "base")
    with mount_place(disk_path / "other", store) as mounted:
        place = WrittenPlace(mounted, store, "")
        after = written_and_listed(place)
        assert after[0] == before[0] == place.stored()
        if not store.is_flat:
            assert after[1] == before[1]
        place.shell("echo again >> one; mv dir moved; rm replaced")
        place.assert_stored()
        mounted.umount()
