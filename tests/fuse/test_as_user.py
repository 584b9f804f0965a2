"""Everything as an ordinary user, through fusermount3. Run as root, the tests become `nobody` for it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ordinary_user import NoOrdinaryUserError, OrdinaryUser

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.slow,
    pytest.mark.requires("fusermount3", "setpriv", "unshare", "nsenter"),
]

CONTENT = os.urandom(3_000_001)


class UserCommands:
    """The command line of an ordinary user with a home, a runtime directory and some files."""

    def __init__(self, user: OrdinaryUser, base: Path) -> None:
        self.user = user
        self.base = base
        self.mountpoint = base / "mnt"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(base / "home"),
            "XDG_RUNTIME_DIR": str(base / "runtime"),
            "AWS_EC2_METADATA_DISABLED": "true",
            **{name: value for name, value in os.environ.items() if name.startswith("FUSECACHE_TEST")},
            **user.environment,
        }

    def run(self, *command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        deadline = ["timeout", "-s", "KILL", str(timeout)]
        return subprocess.run(
            [*deadline, *self.user.prefix, *command],
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def fusecache(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.user.python, "-P", "-m", "fusecache.cli", *arguments)

    def mount(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.fusecache("mount", f"file://{self.base}/data", str(self.mountpoint), *arguments)

    def status(self) -> dict[str, Any]:
        listed: list[dict[str, Any]] = json.loads(self.fusecache("status", "--json").stdout)
        return listed[0]

    def is_mounted(self) -> bool:
        return str(self.mountpoint) in self.user.mounts()

    def sha256(self, name: str) -> str:
        return self.run("sha256sum", str(self.mountpoint / name)).stdout.split(" ")[0]


def make_home(base: Path, uid: int) -> None:
    for name in ("home", "runtime", "data", "mnt"):
        (base / name).mkdir(mode=0o700)
    (base / "data" / "f").write_bytes(CONTENT)
    for path in base.rglob("*"):
        os.chown(path, uid, -1)


def user_commands(device_mode: int) -> Iterator[UserCommands]:
    base = Path(tempfile.mkdtemp(prefix="fusecache-user-"))
    caches = Path(f"/dev/shm/fusecache-{os.geteuid()}")  # of an ordinary user who runs the tests
    before = set(caches.glob("*"))
    try:
        base.chmod(0o755)
        with OrdinaryUser(base, device_mode=device_mode) as user:
            make_home(base, user.uid)
            commands = UserCommands(user, base)
            yield commands
            commands.fusecache("umount", "--lazy", str(commands.mountpoint))
    except NoOrdinaryUserError as error:
        pytest.skip(str(error))
    finally:
        for path in [base, *(set(caches.glob("*")) - before if os.geteuid() else ())]:
            shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def user() -> Iterator[UserCommands]:
    yield from user_commands(0o666)


@pytest.fixture
def shut_out_user() -> Iterator[UserCommands]:
    if os.geteuid() != 0:
        pytest.skip("needs root to shut a user out")
    yield from user_commands(0o600)


def test_mount_read_warm_status_umount(user: UserCommands) -> None:
    mounted = user.mount()
    assert (mounted.returncode, mounted.stderr) == (0, "")
    expected = subprocess.run(["sha256sum"], input=CONTENT, capture_output=True, check=True).stdout.decode().split(" ")[0]
    assert user.sha256("f") == expected
    warmed = user.fusecache("warm", str(user.mountpoint))
    assert warmed.returncode == 0, warmed.stderr
    status = user.status()
    assert (status["state"], status["cached_percentage"], status["errors"]) == ("ready", 100.0, 0)
    for pid in [status["pids"]["supervisor"], status["pids"]["fetch"], *status["pids"]["serve"]]:
        assert os.stat(f"/proc/{pid}").st_uid in (user.user.uid, 0)  # 0: not dumpable
        assert f"Uid:\t{user.user.uid}\t{user.user.uid}" in Path(f"/proc/{pid}/status").read_text()
    assert user.sha256("f") == expected
    ended = user.fusecache("umount", str(user.mountpoint))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not user.is_mounted()
    assert list((user.base / "runtime" / "fusecache").iterdir()) == []


def test_cache_and_run_directories_are_private(user: UserCommands) -> None:
    assert user.mount().returncode == 0
    user.fusecache("warm", str(user.mountpoint))
    tiers = [user.user.outside(tier["path"]) for tier in user.status()["tiers"]]
    runtime = user.base / "runtime" / "fusecache"
    caches = [user.base / "home" / ".cache" / "fusecache"]
    seen = 0
    for directory in [*tiers, runtime, *(path for cache in caches for path in cache.glob("*"))]:
        for path in [directory, *directory.rglob("*")]:
            status = path.lstat()
            if not stat.S_ISLNK(status.st_mode):
                assert not status.st_mode & 0o077, f"{path}: {stat.filemode(status.st_mode)}"
                assert status.st_uid == user.user.uid
                seen += 1
    assert seen > 10


def test_no_passthrough_without_privileges(user: UserCommands) -> None:
    assert user.mount("--access", "passthrough").returncode == 0
    user.fusecache("warm", str(user.mountpoint))
    assert user.sha256("f") == user.sha256("f") != ""
    assert user.status()["errors"] == 0


@pytest.mark.root
def test_others_are_kept_out(user: UserCommands) -> None:
    """Without user_allow_other in /etc/fuse.conf, not even root reads a user's mount."""
    if "user_allow_other" in [line.strip() for line in Path("/etc/fuse.conf").read_text().splitlines()]:
        pytest.skip("/etc/fuse.conf lets users open their mounts to others")
    assert user.mount().returncode == 0
    enter = user.user.prefix[:3]
    denied = subprocess.run(["timeout", "20", *enter, "cat", str(user.mountpoint / "f")], capture_output=True, text=True)
    assert "Permission denied" in denied.stderr


def test_mount_point_of_another_user(user: UserCommands) -> None:
    refused = user.fusecache("mount", f"file://{user.base}/data", "/usr")
    assert refused.returncode != 0
    assert "own directories" in refused.stderr


def test_device_that_the_user_may_not_open(shut_out_user: UserCommands) -> None:
    refused = shut_out_user.mount()
    assert refused.returncode != 0
    assert "/dev/fuse cannot be opened" in refused.stderr
    assert "chmod 666 /dev/fuse" in refused.stderr
    assert not shut_out_user.is_mounted()
    assert not (shut_out_user.base / "home" / ".cache").exists()
