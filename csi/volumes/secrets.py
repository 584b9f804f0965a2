"""The secret fields of calls: what their keys mean, and where their values may lie. Stateless.

A value goes into a file of mode 0600 that the cache daemon reads, on a memory file system where there is one; or to a process
through a pipe. It is in no argument, environment, log or journal.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from csi.errors import invalid
from fusecache.base.confinement import User

_CANONICAL = {
    "access_key": ("accesskey", "accesskeyid", "awsaccesskeyid", "key", "fsossaccesskeyid", "ossaccesskeyid"),
    "secret_key": (
        "secretkey", "secret", "accesskeysecret", "secretaccesskey", "awssecretaccesskey", "fsossaccesskeysecret",
        "ossaccesskeysecret",
    ),
    "session_token": ("sessiontoken", "awssessiontoken", "securitytoken", "fsosssecuritytoken", "osssessiontoken"),
    "user": ("user", "username"),
    "password": ("password",),
    "token": ("token", "bearertoken"),
}  # fmt: skip
_NAMES = {alias: name for name, aliases in _CANONICAL.items() for alias in aliases}
MAX_VALUE_BYTES = 64 << 10


def canonical(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the values under the names that sources use. Raises: INVALID_ARGUMENT; the message holds no value."""
    found: dict[str, str] = {}
    for key, value in secrets.items():
        name = _NAMES.get(re.sub(r"[^a-z]", "", key.lower()))
        if name is None:
            raise invalid(f"the secret has a key {key[:60]!r} that is not known: use {', '.join(sorted(_CANONICAL))}")
        if len(value.encode()) > MAX_VALUE_BYTES or "\0" in value:
            raise invalid(f"the secret's key {key[:60]!r} holds no credential: it is too long, or not text")
        found[name] = value
    return found


def identity_of(secrets: Mapping[str, str]) -> str:
    """Return a digest of who somebody is, but not of what proves it: it stays when keys are rotated under one name."""
    public = secrets.get("access_key") or secrets.get("user") or ""
    return hashlib.sha256(public.encode()).hexdigest()[:16] if public else ""


def write_files(directory: Path, secrets: Mapping[str, str], owner: User) -> dict[str, str]:
    """Write each value into a file of its own, and return the options that name them. `directory` is there, and `owner`'s.

    Raises: OSError."""
    options: dict[str, str] = {}
    for name, value in secrets.items():
        path = directory / name
        scratch = directory / f".{name}.new"
        with open(scratch, "w", opener=lambda file, flags: os.open(file, flags | os.O_NOFOLLOW, 0o600)) as file:
            os.chown(file.fileno(), owner.uid, owner.gid)
            file.write(value)
        scratch.rename(path)
        options[f"{name}_file"] = str(path)
    return options
