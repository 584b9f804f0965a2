"""Runs commands as an ordinary user (`nobody`, if we are root), in a mount namespace where /dev/fuse is open to everybody.

Owns the process that keeps the namespace, from `__enter__` to `__exit__`; /dev/shm in it is a new one, gone with it. On usual
systems /dev/fuse has mode 0666, because fusermount3 opens it as the user; containers often have it 0600.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent.parent
OPEN_DEVICE = f"""
import os, stat, sys
sys.path.insert(0, {str(ROOT)!r})
from fusecache.custody import kernel
place, mode = sys.argv[1], int(sys.argv[2], 8)
kernel.mount("tmpfs", place, "tmpfs", 0, "")
os.umask(0)
os.mknod(place + "/fuse", stat.S_IFCHR | mode, os.makedev(10, 229))
kernel.mount(place + "/fuse", "/dev/fuse", "", 4096, "")  # MS_BIND
kernel.mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777")
print(flush=True)
sys.stdin.read()
"""


class NoOrdinaryUserError(Exception):
    """Why commands cannot be run as an ordinary user here."""


class OrdinaryUser:
    """Use as a context manager. `base` is given to the user; `device_mode` is that of /dev/fuse.

    Attributes:
        prefix: put before a command.
        python: an interpreter that the user may run, with `environment`.
    """

    def __init__(self, base: Path, *, device_mode: int = 0o666) -> None:
        self._base = base
        self._device_mode = device_mode
        self._keeper: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []
        self.python = sys.executable
        self.environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])}
        self.uid = os.geteuid()

    def mounts(self) -> str:
        """The user's mount table."""
        pid = self._keeper.pid if self._keeper else os.getpid()
        return Path(f"/proc/{pid}/mountinfo").read_text()

    def outside(self, path: str) -> Path:
        """Where to find a path of the user's namespace."""
        return Path(f"/proc/{self._keeper.pid}/root{path}") if self._keeper else Path(path)

    def _become_nobody(self) -> None:
        nobody = pwd.getpwnam("nobody")
        self.uid = nobody.pw_uid
        os.chown(self._base, nobody.pw_uid, nobody.pw_gid)
        device = self._base / "dev"
        device.mkdir()
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", OPEN_DEVICE]
        self._keeper = subprocess.Popen(
            [*command, str(device), oct(self._device_mode)[2:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._keeper.stdout is not None
        if not self._keeper.stdout.readline():
            raise NoOrdinaryUserError("no mount namespace with a /dev/fuse of its own can be made here")
        enter = ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", "--wd=/"]
        self.prefix = [*enter, "setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]

    def _find_python(self) -> str:
        """Our interpreter may lie in root's home; the system's, if it is of the same version, can use our packages."""
        for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
            # setpriv itself still has root's rights when it starts Python; what Python starts must work without.
            code = f"import os, fusecache.cli.commands, trio, lmdb, xxhash; os.execv({python!r}, ['python', '-V'])"
            done = subprocess.run(
                [*self.prefix, python, "-P", "-c", code], env={**os.environ, **self.environment}, capture_output=True, timeout=30
            )
            if done.returncode == 0:
                return python
        raise NoOrdinaryUserError(
            f"an ordinary user can run no Python here that finds our packages: {done.stderr.decode()[-200:]}"
        )

    def __enter__(self) -> Self:
        try:
            if os.geteuid() == 0:
                self._become_nobody()
            self.python = self._find_python()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.communicate(timeout=10)
            self._keeper = None
