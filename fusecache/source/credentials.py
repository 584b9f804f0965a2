"""Finds the keys a store is addressed with, and notices when they were rotated.

Owns the last credential read and the fingerprints (inode, mtime, size) of the files it came from; called before every
request from any thread of fetch. A race only reads a file twice: the cached value is replaced as one reference.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fusecache.contract.errors import CacheError, ErrorKind

log = logging.getLogger(__name__)

# Files of one set that were replaced one after the other make keys that nobody ever gave out: while some are new and others are
# not, the old set is used for so long. A guess: long enough for any program, short enough for a person who changes one of them.
PAIR_SECONDS = 2.0
MAX_SECRET_BYTES = 64 << 10  # a session token is below 2 KiB; a guess that keeps a wrong path from being read whole


@dataclass(frozen=True, slots=True)
class Credential:
    """One set of keys. `origin` says for people where it came from; the secrets stay out of repr."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    origin: str = ""


class CredentialProvider(Protocol):
    """What the clients of a store ask for keys."""

    def get(self) -> Credential | None:
        """Return the keys as they are now, None for anonymous access. Raises DENIED where there are none."""

    def refresh(self) -> bool:
        """Forget what is cached after the store refused it; True if other keys are there now."""


@dataclass(frozen=True, slots=True)
class EnvironmentNames:
    """What the variables are called; the first that is set counts."""

    access_key: tuple[str, ...]
    secret_key: tuple[str, ...]
    session_token: tuple[str, ...]


AWS_NAMES = EnvironmentNames(("AWS_ACCESS_KEY_ID",), ("AWS_SECRET_ACCESS_KEY",), ("AWS_SESSION_TOKEN",))
OSS_NAMES = EnvironmentNames(
    ("OSS_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_ID"),
    ("OSS_ACCESS_KEY_SECRET", "OSS_SECRET_ACCESS_KEY", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
    ("OSS_SESSION_TOKEN", "OSS_SECURITY_TOKEN", "ALIBABA_CLOUD_SECURITY_TOKEN"),
)


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """Where to look, from the source's options. Empty text means not given.

    Attributes:
        access_key, secret_key, session_token: the keys themselves (from a configuration file, never from argv).
        access_key_file, secret_key_file, session_token_file: files holding one value each; read again when they change.
        profile: a section of ~/.aws; asked before the environment when given.
        anonymous: do not sign at all; nothing else is looked at.
        instance_role: the machine's own identity may be asked for (only where no endpoint was given: real AWS).
    """

    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    access_key_file: str = ""
    secret_key_file: str = ""
    session_token_file: str = ""
    profile: str = ""
    anonymous: bool = False
    instance_role: bool = False
    names: EnvironmentNames = AWS_NAMES

    def __post_init__(self) -> None:
        for first, second, what in (
            (self.access_key, self.secret_key, "access_key and secret_key"),
            (self.access_key_file, self.secret_key_file, "access_key_file and secret_key_file"),
        ):
            if bool(first) != bool(second):
                raise CacheError(ErrorKind.INVALID, f"{what} belong together, only one is given: give both or neither")
        if self.session_token_file and not self.access_key_file:
            raise CacheError(
                ErrorKind.INVALID, "session_token_file belongs to access_key_file and secret_key_file: give all three"
            )
        if self.access_key and self.access_key_file:
            raise CacheError(ErrorKind.INVALID, "access_key and access_key_file are both given: keep one of them")


Fingerprint = tuple[tuple[int, int, int, int] | None, ...]


class CredentialChain:
    """Option files, keys in the options, a named profile, the environment, ~/.aws and machine identity: in this order.

    Invariants: after all files of a set changed, the next `get` returns what they hold now; after some of them changed, one
    within PAIR_SECONDS does, or the next after `refresh`.
    """

    def __init__(self, settings: CredentialSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._lock = threading.Lock()
        self._files: tuple[Fingerprint, Credential] | None = None
        self._half_new: tuple[Fingerprint, float] | None = None  # some files changed, first seen then (monotonic)
        self._session: tuple[Fingerprint, Any] | None = None  # botocore's credentials object, which refreshes itself

    def get(self) -> Credential | None:
        settings = self._settings
        if settings.anonymous:
            return None
        if settings.access_key_file:
            return self._from_option_files()
        if settings.access_key:
            return Credential(settings.access_key, settings.secret_key, settings.session_token, "the options")
        if settings.profile:
            return self._from_botocore() or self._missing()
        return self._from_environment() or self._from_botocore() or self._missing()

    def refresh(self) -> bool:
        if self._settings.anonymous:
            return False
        old_files, old_session = self._files, self._session
        self._files = self._session = None
        if self._settings.access_key_file:
            new = self._from_option_files()
            return old_files is None or old_files[1] != new
        if old_session is not None:
            found = self._from_botocore()
            return found is not None and found != _frozen(old_session[1])
        return False

    def _from_option_files(self) -> Credential:
        settings = self._settings
        paths = tuple(p for p in (settings.access_key_file, settings.secret_key_file, settings.session_token_file) if p)
        before = _fingerprint(paths)
        cached = self._files
        if cached is not None and cached[0] == before:
            return cached[1]
        if cached is not None and self._is_half_new(cached[0], before):
            return cached[1]
        for _ in range(5):  # both files of a pair may be replaced while we read: read until nothing moved
            values = [_read_secret(path) for path in paths]
            after = _fingerprint(paths)
            if after == before:
                break
            before = after
        token = values[2] if settings.session_token_file else ""
        credential = Credential(values[0], values[1], token, settings.access_key_file)
        if cached is not None and cached[1] != credential:
            log.info("credentials were replaced in %r", settings.access_key_file)
        self._files = (before, credential)
        return credential

    def _is_half_new(self, old: Fingerprint, now: Fingerprint) -> bool:
        """Whether some files changed a moment ago and others did not: the rest will follow."""
        if all(one != other for one, other in zip(old, now, strict=True)):
            return False
        known = self._half_new
        if known is None or known[0] != now:
            known = self._half_new = (now, time.monotonic())
        return time.monotonic() - known[1] < PAIR_SECONDS

    def _from_environment(self) -> Credential | None:
        names = self._settings.names
        access, secret = self._variable(names.access_key), self._variable(names.secret_key)
        if not access and not secret:
            return None
        if not access or not secret:
            missing = names.secret_key[0] if access else names.access_key[0]
            raise CacheError(ErrorKind.DENIED, f"the environment holds one half of the keys: set {missing} too")
        return Credential(access, secret, self._variable(names.session_token), f"the environment ({names.access_key[0]})")

    def _from_botocore(self) -> Credential | None:
        """Ask botocore for what ~/.aws, web identity, container or instance role give; it costs 110 ms to import."""
        if self._settings.names is not AWS_NAMES:
            return None
        config, shared = self._config_paths()
        if not self._is_botocore_needed(config, shared):
            return None
        with self._lock:
            fingerprint = _fingerprint((config, shared))
            if self._session is None or self._session[0] != fingerprint:
                self._session = (fingerprint, self._open_session(config, shared))
            return _frozen(self._session[1])

    def _config_paths(self) -> tuple[str, str]:
        home = self._environment.get("HOME") or os.path.expanduser("~")
        config = self._environment.get("AWS_CONFIG_FILE") or os.path.join(home, ".aws", "config")
        shared = self._environment.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(home, ".aws", "credentials")
        return config, shared

    def _is_botocore_needed(self, config: str, shared: str) -> bool:
        if self._settings.profile or os.path.exists(config) or os.path.exists(shared):
            return True
        if any(self._environment.get(name) for name in _IDENTITY_VARIABLES):
            return True
        return self._settings.instance_role and self._environment.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"

    def _open_session(self, config: str, shared: str) -> Any:
        import botocore.exceptions
        import botocore.session

        session = botocore.session.Session(profile=self._settings.profile or None)
        session.set_config_variable("config_file", config)
        session.set_config_variable("credentials_file", shared)
        try:
            resolver = session.get_component("credential_provider")
            resolver.remove("env")  # asked by us, before
            if not self._settings.instance_role:
                resolver.remove("iam-role")  # it would wait for an address that a store of one's own does not have
            return session.get_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise CacheError(ErrorKind.DENIED, f"{config} or {shared} cannot be used: {error}; mend them") from error

    def _missing(self) -> Credential:
        names = self._settings.names
        where = f"profile {self._settings.profile!r}" if self._settings.profile else "options, environment and config files"
        raise CacheError(
            ErrorKind.DENIED,
            f"no access key was found in {where}: set {names.access_key[0]} and {names.secret_key[0]}, "
            "or give -o access_key_file= and -o secret_key_file=, or -o anonymous=true for public data",
        )

    def _variable(self, names: tuple[str, ...]) -> str:
        return next((self._environment[name] for name in names if self._environment.get(name)), "")


_IDENTITY_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _frozen(found: Any) -> Credential | None:
    if found is None:
        return None
    keys = found.get_frozen_credentials()
    return Credential(keys.access_key, keys.secret_key, keys.token or "", f"botocore ({found.method})")


def _fingerprint(paths: tuple[str, ...]) -> Fingerprint:
    """Follow symbolic links: a mounted Secret is replaced by moving a link to a directory of new inodes."""
    found: list[tuple[int, int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path)
            found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


def _read_secret(path: str) -> str:
    try:
        with open(path, "rb") as file:
            value = file.read(MAX_SECRET_BYTES).decode("utf-8", "strict").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CacheError(
            ErrorKind.DENIED, f"the credential file {path!r} cannot be read ({reason}): check path and mode"
        ) from error
    if not value or not value.isprintable():
        raise CacheError(
            ErrorKind.DENIED, f"the credential file {path!r} is empty or not one line of text: write the key into it"
        )
    return value
