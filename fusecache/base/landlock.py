"""Landlock: a process takes from itself, and from all that it starts, what it will never need. No state.

Source: include/uapi/linux/landlock.h; Documentation/userspace-api/landlock.rst. What is open already is not
affected, and neither are memfds, pipes and sockets.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on all architectures
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
_OF_FILES = _WRITE_FILE | _TRUNCATE
_OF_DIRECTORIES = sum(1 << bit for bit in range(4, 13))  # REMOVE_DIR to MAKE_SYM
_SINCE_ABI = {_REFER: 2, _TRUNCATE: 3}


def abi_version() -> int:
    """Return the version that the kernel speaks; 0 if it has none, or it is switched off."""
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, 0, _VERSION)))


def forbid_writing_outside(paths: Iterable[str]) -> None:
    """Let this process change nothing but what lies at or below `paths` (they have to be there). Raises: OSError.

    With no_new_privs set, or CAP_SYS_ADMIN. Reading stays as it is.
    """
    handled = _OF_FILES | _OF_DIRECTORIES | _REFER
    version = abi_version()
    for right, since in _SINCE_ABI.items():
        if version < since:
            handled &= ~right
    libc = _libc()
    attributes = struct.pack("<Q", handled)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0), "landlock_create_ruleset")
    try:
        for path in paths:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rights = handled if os.path.isdir(path) else handled & _OF_FILES
                rule = struct.pack("<Qi", rights, fd)  # packed in the header, too
                _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")
            finally:
                os.close(fd)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return int(result)
