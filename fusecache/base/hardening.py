"""What each process does for itself before it touches a credential. No state."""

from __future__ import annotations

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4  # include/uapi/linux/prctl.h


def harden_process() -> None:
    """Keep credentials in memory out of core dumps and away from ptrace by the same user; allow many open files.

    RLIMIT_CORE is inherited, being undumpable is not (exec resets it): each process calls this for itself. Raises: OSError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_DUMPABLE): {os.strerror(code)}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
