"""What a process gives up: tried out in a process of its own, for it cannot be undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusecache.base import landlock
from fusecache.base.confinement import Confinement, User, shut_out

pytestmark = pytest.mark.root

PROBE = """
import json, os, sys
from fusecache.base.confinement import Confinement
names = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
inside, outside = sys.argv[2:]
Confinement.from_json(sys.argv[1]).apply()
def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
os.mkdir(inside + "/a")
os.mkdir(inside + "/b")
open(inside + "/a/file", "w").close()
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "rename": attempt(lambda: os.rename(inside + "/a/file", inside + "/b/file")),
    "truncate": attempt(lambda: os.truncate(inside + "/b/file", 10)),
    "null": attempt(lambda: open("/dev/null", "w").close()),
    "read": attempt(lambda: open(outside + "/file").read()),
    "create": attempt(lambda: open(outside + "/new", "w").close()),
    "write": attempt(lambda: open(outside + "/file", "r+").close()),
    "remove": attempt(lambda: os.unlink(outside + "/file")),
    "root": attempt(lambda: os.setuid(0)),
    "status": {name: status[name].strip() for name in names},
}))
"""


@pytest.fixture
def places(disk_path: Path) -> tuple[Path, Path]:
    for directory in (disk_path, *disk_path.parents):
        if "fusecache-test-" in str(directory):
            directory.chmod(directory.stat().st_mode & 0o7777 | 0o011)
    inside, outside = disk_path / "inside", disk_path / "outside"
    inside.mkdir()
    os.chown(inside, 65534, 65534)
    outside.mkdir()
    outside.chmod(0o777)  # what only Landlock protects
    (outside / "file").write_text("text")
    (outside / "file").chmod(0o666)
    return inside, outside


def test_a_confined_process_can_do_what_it_has_to_and_nothing_else(places: tuple[Path, Path]) -> None:
    if landlock.abi_version() < 3:
        pytest.skip("this kernel has no Landlock of version 3 or newer")
    inside, outside = places
    confinement = Confinement(65534, 65534, (str(inside),)).to_json()
    done = subprocess.run(
        [sys.executable, "-c", PROBE, confinement, str(inside), str(outside)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    status = seen.pop("status")
    assert seen == {
        "rename": "done", "truncate": "done", "null": "done", "read": "done",
        "create": "PermissionError", "write": "PermissionError", "remove": "PermissionError", "root": "PermissionError",
    }  # fmt: skip
    assert status.pop("NoNewPrivs") == "1"
    assert (status.pop("Uid").split(), status.pop("Gid").split()) == (["65534"] * 4, ["65534"] * 4)
    assert status.pop("Groups") == ""
    assert set(status.values()) == {"0" * 16}, "no capability in any set"


def test_a_directory_that_shuts_the_user_out_is_named(disk_path: Path) -> None:
    private = disk_path / "private"
    (private / "deep").mkdir(parents=True)
    private.chmod(0o700)
    assert shut_out(User(0, 0), [str(private / "deep" / "file")]) is None
    assert shut_out(User(os.getuid() + 1, 65534), ["/usr/bin/env"]) is None
    first = shut_out(User(65534, 65534), [str(private / "deep" / "file")])
    assert first is not None
    assert str(private).startswith(first)


@pytest.mark.parametrize("text", ["nobody", "-1", "1:2:3", "", "4294967295"])
def test_no_user(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        User.parse(text)


def test_users() -> None:
    assert User.parse("65534") == User(65534, 65534)
    assert User.parse("1000:100") == User(1000, 100)
