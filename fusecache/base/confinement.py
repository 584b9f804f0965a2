"""What a daemon gives up before it does anything: root's uid, groups, capabilities, and writing outside of its own directories.

Where a container does all that, this is not used.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from fusecache.base import landlock

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38  # include/uapi/linux/prctl.h


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """UID or UID:GID, numbers. Raises: ValueError."""
        uid, _, gid = text.partition(":")
        user = cls(int(uid), int(gid or uid))
        if not (0 <= user.uid < 2**32 - 1 and 0 <= user.gid < 2**32 - 1):
            raise ValueError(f"{text!r} is no user")
        return user

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(frozen=True, slots=True)
class Confinement:
    """`writable`: paths at and below which the process may change something."""

    uid: int
    gid: int
    writable: tuple[str, ...]

    @classmethod
    def from_json(cls, text: str) -> Self:
        raw = json.loads(text)
        return cls(int(raw["uid"]), int(raw["gid"]), tuple(raw["writable"]))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def apply(self) -> None:
        """For this process and all that it starts; cannot be undone. Needs root. Raises: OSError.

        A kernel without Landlock leaves what the user's permissions allow: next to nothing is writable for nobody.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        capability = 0
        while libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
            capability += 1
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)  # with root's uid the permitted and effective capabilities go
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        if landlock.abi_version() > 0:
            landlock.forbid_writing_outside((*self.writable, os.devnull))


def shut_out(user: User, paths: Iterable[str]) -> str | None:
    """Return the first directory on the way to one of `paths` that `user` cannot pass; None if all can be reached."""
    for path in paths:
        for directory in reversed(Path(os.path.realpath(path)).parents):
            if user.uid and not _may_pass(user, directory.stat()):
                return str(directory)
    return None


def _may_pass(user: User, directory: os.stat_result) -> bool:
    if directory.st_uid == user.uid:
        return bool(directory.st_mode & stat.S_IXUSR)
    return bool(directory.st_mode & (stat.S_IXGRP if directory.st_gid == user.gid else stat.S_IXOTH))
