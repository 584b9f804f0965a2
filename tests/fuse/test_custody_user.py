"""A mount by an ordinary user, through fusermount3. Run as root, the tests become `nobody` for it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.contract.exit_status import exit_status_of
from fusecache.custody.mountinfo import MountEntry, parse_mountinfo
from tests.support.custody_mount import CustodyMount

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.requires("fusermount3", "setpriv", "unshare", "nsenter")]

_ROOT = Path(__file__).parent.parent.parent


_OPEN_DEVICE = f"""
import os, stat, sys
sys.path.insert(0, {str(_ROOT)!r})
from fusecache.custody import kernel
place = sys.argv[1]
kernel.mount("tmpfs", place, "tmpfs", 0, "")
os.umask(0)
os.mknod(place + "/fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
kernel.mount(place + "/fuse", "/dev/fuse", "", 4096, "")  # MS_BIND
print(flush=True)
sys.stdin.read()
"""


def _find_python(as_user: tuple[str, ...]) -> str | None:
    """Return a Python that the user may run, and that can read this checkout."""
    for python in (sys.executable, "/usr/bin/python3"):
        # setpriv itself still has root's rights when it starts Python; what Python starts must work without.
        code = f"import os, sys; sys.path.insert(0, {str(_ROOT)!r}); import fusecache.custody.supervisor; "
        code += f"os.execv({python!r}, ['python', '-V'])"
        if subprocess.run([*as_user, python, "-c", code], capture_output=True, timeout=20).returncode == 0:
            return python
    return None


def _become_nobody(base: Path) -> tuple[tuple[str, ...], subprocess.Popen[bytes]]:
    """Return a command line that runs what follows as `nobody`, and the process that keeps its mount namespace.

    In the namespace /dev/fuse is open to everybody, as on usual systems: fusermount3 opens it as the user.
    """
    nobody = pwd.getpwnam("nobody")
    for path in (base, *base.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    device = base / "dev"
    device.mkdir()
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", _OPEN_DEVICE, str(device)]
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    if not keeper.stdout.readline():
        keeper.communicate()
        pytest.skip("no mount namespace with a /dev/fuse of its own can be made here")
    enter = ("nsenter", f"--mount=/proc/{keeper.pid}/ns/mnt", "--wd=/")
    return (*enter, "setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"), keeper


@dataclass
class UserMount:
    """A mount and the mount namespace it is in."""

    mount: CustodyMount
    namespace_pid: int

    @property
    def entry(self) -> MountEntry | None:
        entries = parse_mountinfo(Path(f"/proc/{self.namespace_pid}/mountinfo").read_bytes())
        return next((entry for entry in entries if entry.mountpoint == str(self.mount.mountpoint)), None)

    def leftovers(self) -> list[str]:
        return [*self.mount.leftovers(), *(["mount"] if self.entry is not None else [])]


@pytest.fixture
def user() -> Iterator[UserMount]:
    base = Path(tempfile.mkdtemp(prefix="fusecache-user-"))
    one = CustodyMount(base)
    keeper = None
    try:
        if os.geteuid() == 0:
            one.as_user, keeper = _become_nobody(base)
        python = _find_python(one.as_user)
        if python is None:
            pytest.skip("no Python 3.11 here that an ordinary user may run")
        one.python = python
        yield UserMount(one, keeper.pid if keeper else os.getpid())
    finally:
        one.close()
        if keeper is not None:
            keeper.communicate(timeout=10)
        shutil.rmtree(base)


def umount(mount: CustodyMount, *options: str) -> subprocess.CompletedProcess[str]:
    """End the mount as its user; the exit status is 1, with the sentence on stderr, if that failed."""
    code = (
        f"import sys; sys.path.insert(0, {str(_ROOT)!r})\n"
        "from fusecache.custody.unmount import unmount\n"
        "from fusecache.contract.errors import CacheError\n"
        f"try: unmount({str(mount.run_root)!r}, {str(mount.mountpoint)!r}, lazy={'lazy' in options})\n"
        "except CacheError as error: sys.exit(str(error))"
    )
    return subprocess.run([*mount.as_user, mount.python, "-c", code], capture_output=True, text=True, timeout=30)


def test_mounts_reads_survives_and_leaves_nothing(user: UserMount) -> None:
    mount = user.mount
    assert mount.start() == {"state": "ready"}
    entry = user.entry
    assert entry is not None
    assert entry.source == "fusecache"
    assert {"ro", "nosuid", "nodev", "default_permissions", "max_read=1048576"} <= entry.options
    if os.geteuid() == 0:
        assert "user_id=65534" in entry.options
    assert mount.read() == b"h" * 4096
    assert "read-ahead" in mount.record.read_ahead_problem
    mount.wait_spares()
    os.kill(mount.record.serve[0].pid, signal.SIGKILL)
    assert mount.read() == b"h" * 4096
    assert mount.read("backed") == b"h" * 4096  # no passthrough without privileges
    assert "BACKING_OPEN" in mount.record.passthrough_problem or mount.record.passthrough_problem == ""
    mount.wait(lambda record: record.restarts == 1)
    ended = umount(mount)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert user.leftovers() == []
    assert mount.wait_ended() == 0


def test_busy_umount_and_lazy(user: UserMount) -> None:
    mount = user.mount
    mount.start()
    holder = mount.hold()
    refused = umount(mount)
    assert refused.returncode == 1
    assert f"{holder.pid} " in refused.stderr
    assert "--lazy" in refused.stderr
    assert umount(mount, "lazy").returncode == 0
    assert user.leftovers() == []
    holder.communicate(b"\n", timeout=10)


def test_dead_supervisor(user: UserMount) -> None:
    mount = user.mount
    mount.start()
    os.kill(mount.record.supervisor.pid, signal.SIGKILL)
    mount.wait_ended()
    assert mount.read() == b"h" * 4096
    assert umount(mount).returncode == 0
    assert user.leftovers() == []


@pytest.mark.root
def test_mount_point_of_somebody_else(user: UserMount) -> None:
    mount = user.mount
    os.chown(mount.mountpoint, 0, 0)
    answer = mount.start()
    assert answer["state"] == "failed"
    assert str(mount.mountpoint) in answer["message"]
    assert "must belong to you" in answer["message"]
    assert mount.wait_ended() == exit_status_of(ErrorKind(answer["kind"]))
    assert user.leftovers() == []
