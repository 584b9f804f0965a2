"""Parameters of a StorageClass, of a volume's context and of its VolumeAttributesClass: which of them are settings of the mount,
and which are options of the source. Stateless.

`source` names the store, e.g. s3://bucket/prefix. `directory` (contexts only) is that of the volume below it, `tiers` says what
the cache may take. Everything else is a setting of base/settings.py or an option of the source, whose names only the source
knows; secrets are refused here, they have fields of their own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from csi.errors import RpcError, invalid
from csi.volumes.tiers import parse_tiers
from fusecache.base.secret_names import refuse_secret
from fusecache.base.settings import SETTINGS, parse_setting
from fusecache.contract.errors import CacheError

SOURCE, DIRECTORY, TIERS = "source", "directory", "tiers"
_OF_KUBERNETES = ("csi.storage.k8s.io/", "storage.kubernetes.io/")
# What the driver decides itself: where things lie, and what a capability says.
_DECIDED_HERE = frozenset({"cache_dir", "read_write", "engine", "debug_no_resend", "log_level"})
MUTABLE = frozenset({"ttl", "negative_ttl", "stage_quota", "deadline", "write_back_delay"})
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
MAX_DIRECTORY_BYTES = 100


@dataclass(frozen=True, slots=True)
class Parameters:
    """`options`: of the source. `settings`: text as given, each of which parses. `tiers`: as given; "" for what the node has."""

    source: str
    options: Mapping[str, str]
    settings: Mapping[str, str]
    directory: str = ""
    tiers: str = ""

    def to_context(self) -> dict[str, str]:
        """Return what `parse` makes this of again."""
        named = {DIRECTORY: self.directory, TIERS: self.tiers}
        return {SOURCE: self.source, **self.options, **self.settings, **{key: value for key, value in named.items() if value}}


def parse(given: Mapping[str, str]) -> Parameters:
    """Raises: INVALID_ARGUMENT."""
    options: dict[str, str] = {}
    settings: dict[str, str] = {}
    source = directory = tiers = ""
    for key, value in given.items():
        if key == SOURCE:
            source = value
        elif key == DIRECTORY:
            directory = _checked_directory(value)
        elif key == TIERS:
            parse_tiers(value)
            tiers = value
        elif key.startswith(_OF_KUBERNETES):
            continue
        elif key in _DECIDED_HERE:
            raise invalid(f"parameter {key} is decided by the driver: leave it out")
        elif key in SETTINGS:
            check_setting(key, value)
            settings[key] = value
        else:
            _refuse_secret(key)
            options[key] = value
    if not source:
        raise invalid("parameter source is missing: it names the store, such as s3://bucket/prefix")
    return Parameters(source, options, settings, directory, tiers)


def check_mutable(given: Mapping[str, str]) -> dict[str, str]:
    """Return parameters that may change while a volume is there. Raises: INVALID_ARGUMENT."""
    for key, value in given.items():
        if key not in MUTABLE:
            raise invalid(f"parameter {key[:100]!r} cannot be changed: only {', '.join(sorted(MUTABLE))} can")
        check_setting(key, value)
    return dict(given)


def check_setting(key: str, value: str) -> None:
    try:
        parse_setting(key, value)
    except CacheError as error:
        raise RpcError.of(error) from error


def directory_for(name: str, given: Mapping[str, str]) -> str:
    """Return what the directory of a new volume is called: people find a claim by namespace and name."""
    namespace, claim = (given.get(f"csi.storage.k8s.io/pvc/{part}", "") for part in ("namespace", "name"))
    whole = f"{namespace}-{claim}-{name}" if namespace and claim else name
    plain = _UNSAFE.sub("-", whole).strip(".-")
    if plain == whole and len(plain) <= MAX_DIRECTORY_BYTES:
        return plain
    return f"{plain[: MAX_DIRECTORY_BYTES - 17]}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}".lstrip("-")


def _checked_directory(value: str) -> str:
    parts = value.split("/")
    if not value or any(part in ("", ".", "..") or "\0" in part for part in parts) or len(value.encode()) > 1024:
        raise invalid(f"directory {value[:100]!r} is no path below the source")
    return value


def _refuse_secret(key: str) -> None:
    try:
        refuse_secret(key)
    except CacheError:
        raise invalid(
            f"parameter {key[:100]!r} would show a secret to all who may see the volume: put it into a Secret, and name that"
            " in csi.storage.k8s.io/provisioner-secret-name and csi.storage.k8s.io/node-stage-secret-name"
        ) from None
