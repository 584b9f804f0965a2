"""Directories of the cache daemons, which are not root's: made with the owner and the mode that they need. Stateless."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fusecache.base.confinement import User


def make_passable(directory: Path) -> None:
    """Make a directory of ours through which others may pass, but not look. What is there keeps its mode, and its owner.

    mkdir alone will not do: the umask takes away what is wanted."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o711, exist_ok=True)
        one.chmod(0o711)


def make_mountpoint(directory: Path) -> None:
    """Make a directory of ours to mount on. What is mounted there already is not asked for anything: nobody may answer."""
    make_passable(directory.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o711)
        directory.chmod(0o711)


def make_owned(directory: Path, user: User) -> None:
    """Make a directory that only `user` gets into; one that another user had is given over with all that is in it."""
    make_passable(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.stat(follow_symlinks=False)
    if (status.st_uid, status.st_gid) == (user.uid, user.gid):
        return
    for root, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(os.path.join(root, name), user.uid, user.gid, follow_symlinks=False)
    os.chown(directory, user.uid, user.gid)  # last: a run that was interrupted begins again
