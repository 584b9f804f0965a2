"""`fusecache mount` around a supervisor that does as it is told: what is made, what is said, what is left when it fails."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.cli.interrupts import interruptible
from fusecache.cli.mount_command import make_mount
from fusecache.cli.places import Places
from fusecache.cli.spec_building import MountArguments
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import SPEC

pytestmark = pytest.mark.fuse  # /dev/fuse is looked at, nothing is mounted

_SUPERVISOR = """
import json, os, signal, sys, time
from pathlib import Path
spec_path, fd = sys.argv[2], int(sys.argv[4])
here = Path(os.environ["SCRIPTED_DIR"])
(here / "pid").write_text(str(os.getpid()))
(here / "argv").write_text(" ".join(sys.argv))
(here / "seen").write_text(Path(spec_path).read_text())
def say(**message):
    os.write(fd, json.dumps(message).encode() + b"\\n")
act = os.environ["SCRIPTED_ACT"]
if act == "ready":
    say(state="ready")
elif act == "failed":
    say(state="failed", kind=4, message="the key was refused; check it")
elif act == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
elif act == "silent":
    sys.exit(1)
elif act == "slow":
    (here / "waiting").touch()
    time.sleep(60)
"""


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    (tmp_path / "scripted_supervisor.py").write_text(_SUPERVISOR)
    (tmp_path / "mnt").mkdir()
    environment = {"PYTHONPATH": str(tmp_path), "SCRIPTED_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    yield Places(os.geteuid(), os.getegid(), str(tmp_path / "home" / "cache"), str(tmp_path / "run"), environment)
    assert not _is_running(tmp_path), "the supervisor must be gone"


def _mount(places: Places, tmp_path: Path, act: str, **more: object) -> MountSpec:
    places = places._replace(environment={**places.environment, "SCRIPTED_ACT": act})
    given = MountArguments(("s3://bucket", str(tmp_path / "mnt")), tiers=(f"{tmp_path}/tier:1Mi",), **more)  # type: ignore[arg-type]
    with interruptible() as interrupts:
        return make_mount(given, places, interrupts, supervisor_module="scripted_supervisor")


def _is_running(tmp_path: Path) -> bool:
    try:
        pid = int((tmp_path / "pid").read_text())
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    if status == "Z":
        os.waitpid(pid, os.WNOHANG)
        return False
    return True


def _left(tmp_path: Path) -> list[str]:
    mine = {"scripted_supervisor.py", "__pycache__", "mnt", "pid", "argv", "seen", "waiting", "run"}
    return [path.name for path in tmp_path.iterdir() if path.name not in mine] + [
        path.name for path in (tmp_path / "run").iterdir()
    ]


def test_the_supervisor_gets_the_spec_and_everything_is_private(places: Places, tmp_path: Path) -> None:
    spec = _mount(places, tmp_path, "ready")
    assert MountSpec.from_json((tmp_path / "seen").read_text()) == spec
    assert spec.mountpoint == str(tmp_path / "mnt")
    for path in (spec.run_dir, spec.state_dir, spec.tiers[0].path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{spec.run_dir}/{SPEC}").st_mode) == 0o600
    assert "bucket" not in (tmp_path / "argv").read_text()
    _wait_gone(tmp_path)


@pytest.mark.parametrize(
    ("act", "kind", "sentence"),
    [
        ("failed", ErrorKind.DENIED, "the key was refused; check it"),
        ("silent", ErrorKind.BUG, "ended without a word"),
        ("slow", ErrorKind.TIMEOUT, r"not ready within 0.7 s; see whether the source answers \(fusecache doctor s3://"),
    ],
)
def test_a_failure_is_told_and_leaves_nothing(places: Places, tmp_path: Path, act: str, kind: ErrorKind, sentence: str) -> None:
    with pytest.raises(CacheError, match=sentence) as caught:
        _mount(places, tmp_path, act, timeout="0.7")
    assert caught.value.kind is kind
    assert _left(tmp_path) == []


@pytest.mark.slow
def test_a_supervisor_that_does_not_stop_is_killed(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusecache.cli.supervisor_start.GIVE_UP_SECONDS", 0.3)
    with pytest.raises(CacheError):
        _mount(places, tmp_path, "stubborn", timeout="0.7")
    assert _left(tmp_path) == []


def test_what_an_earlier_mount_made_stays_when_a_later_one_fails(places: Places, tmp_path: Path) -> None:
    spec = _mount(places, tmp_path, "ready")
    _wait_gone(tmp_path)
    Path(spec.tiers[0].path, "block").touch()
    with pytest.raises(CacheError):
        _mount(places, tmp_path, "failed")
    assert Path(spec.tiers[0].path, "block").exists()
    assert Path(spec.state_dir).exists()


def test_ctrl_c_while_waiting_leaves_nothing(places: Places, tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tests.unit.cli import test_mount_command as t\n"
        "from fusecache.cli.places import Places\n"
        "p = Path(sys.argv[2])\n"
        "e = {'PYTHONPATH': str(p), 'SCRIPTED_DIR': str(p), 'PATH': os.environ['PATH']}\n"
        "t._mount(Places(os.geteuid(), os.getegid(), str(p / 'home' / 'cache'), str(p / 'run'), e), p, 'slow')\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    process = subprocess.Popen([sys.executable, "-c", program, root, str(tmp_path)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not (tmp_path / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in error
    assert _left(tmp_path) == []


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        ("missing", ErrorKind.NOT_FOUND, "does not exist; create it: mkdir -p"),
        ("file", ErrorKind.NOT_A_DIRECTORY, "is not a directory"),
        ("below a file", ErrorKind.NOT_A_DIRECTORY, "is not a directory"),
    ],
)
def test_mount_points_that_cannot_be_used(places: Places, tmp_path: Path, make: str, kind: ErrorKind, sentence: str) -> None:
    (tmp_path / "mnt").rmdir()
    if make != "missing":
        (tmp_path / "mnt").touch()
    name = "mnt/x" if make == "below a file" else "mnt"
    with pytest.raises(CacheError, match=sentence) as caught, interruptible() as interrupts:
        make_mount(MountArguments(("s3://bucket", str(tmp_path / name))), places, interrupts)
    assert caught.value.kind is kind
    assert not (tmp_path / "home").exists()


def test_two_commands_at_one_place_do_not_meet(places: Places, tmp_path: Path) -> None:
    import fcntl

    spec = _mount(places, tmp_path, "ready")
    _wait_gone(tmp_path)
    fd = os.open(spec.run_dir, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(CacheError, match="another fusecache mount is at work") as caught:
            _mount(places, tmp_path, "ready")
    finally:
        os.close(fd)
    assert caught.value.kind is ErrorKind.BUSY
    assert Path(spec.run_dir).exists()


def test_a_tier_whose_disk_is_not_there_is_named(places: Places, tmp_path: Path) -> None:
    given = MountArguments(("s3://bucket", str(tmp_path / "mnt")), tiers=(f"{tmp_path}/no/disk:1Mi",))
    with pytest.raises(CacheError, match="nor does its parent"), interruptible() as interrupts:
        make_mount(given, places, interrupts)
    assert not (tmp_path / "home").exists()


def _wait_gone(tmp_path: Path) -> None:
    deadline = time.monotonic() + 5
    while _is_running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
