"""Says who we are to a web server: a user with a password, or a bearer token, from files that may rotate.

Owns the last values read, with the fingerprints of their files; asked before every request from any thread. A race only reads
a file twice.
"""

from __future__ import annotations

import base64
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass

from fusecache.contract.errors import CacheError, ErrorKind

_MAX_SECRET_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Empty text means not given. `netrc_file` is looked at last, and need not know the host."""

    user: str = ""
    user_file: str = ""
    password_file: str = ""
    token_file: str = ""
    netrc_file: str = ""


class HttpAuth:
    """The Authorization header of one host, as the files say it now."""

    def __init__(self, settings: AuthSettings, host: str) -> None:
        self._settings = settings
        self._host = host
        self._fingerprint: tuple[object, ...] | None = None
        self._headers: dict[str, str] = {}
        if settings.token_file and (settings.password_file or settings.user or settings.user_file):
            raise CacheError(ErrorKind.INVALID, "token_file and user or password_file exclude each other; give one of them")
        if (settings.user or settings.user_file) and not settings.password_file:
            raise CacheError(ErrorKind.INVALID, "a user was given without password_file; name the file that holds the password")

    def headers(self) -> Mapping[str, str]:
        """Return the headers to add. Raises: INVALID if a named file cannot be read."""
        settings = self._settings
        files = (settings.user_file, settings.password_file, settings.token_file, settings.netrc_file)
        fingerprint = tuple(_fingerprint(path) for path in files if path)
        if fingerprint != self._fingerprint:
            self._headers = self._read()
            self._fingerprint = fingerprint
        return self._headers

    def _read(self) -> dict[str, str]:
        settings = self._settings
        if settings.token_file:
            return {"Authorization": "Bearer " + _read_secret(settings.token_file, "token_file")}
        if settings.password_file:
            user = _read_secret(settings.user_file, "user_file") if settings.user_file else settings.user
            return _basic(user, _read_secret(settings.password_file, "password_file"))
        if settings.netrc_file:
            try:
                found = netrc.netrc(settings.netrc_file).authenticators(self._host)
            except (OSError, netrc.NetrcParseError) as error:
                message = f"netrc_file {settings.netrc_file!r} cannot be read ({type(error).__name__})"
                raise CacheError(ErrorKind.INVALID, message) from None
            if found is not None:
                return _basic(found[0] or found[1] or "", found[2] or "")
        return {}


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _fingerprint(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_secret(path: str, option: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            secret = file.read(_MAX_SECRET_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(ErrorKind.INVALID, f"{option} {path!r} cannot be read ({type(error).__name__})") from None
    if not secret or "\n" in secret or "\r" in secret:
        raise CacheError(ErrorKind.INVALID, f"{option} {path!r} must hold one line and nothing else")
    return secret
