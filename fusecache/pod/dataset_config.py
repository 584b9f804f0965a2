"""The Dataset as its ConfigMap has it, and the MountSpec that comes of it.

Written by the operator, read here when a pod starts. `dataset.json`, version 1:

| field | meaning |
|---|---|
| version | 1 |
| namespace, name | of the Dataset |
| dataset_id | what its mount is called on nodes (csi/volumes/inline.py) |
| sources | list of {"url", "place": directory in the tree, "" for its root, "options": of the source, "secret_options", |
| | "read_only": false}. `secret_options`: option → name of a file below the credentials directory; given as `OPTION_file` |
| tiers | list of {"directory": a name below the cache directory (MEM: below the memory directory), "medium", "quota_bytes", |
| | "high", "low"} |
| settings | names and values of base/settings.py |
| read_write | whether programs may write |
| peers | absent, or {"service", "port", "owns": true}: other pods of the Dataset, as PeersSpec has them. |
| | Left alone where programs may write |

Stateless. What is unknown is refused: it would be meant for another version of this program.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusecache.base.secret_names import refuse_secret
from fusecache.base.settings import SETTINGS, parse_setting
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Medium, MountSpec, PeersSpec, SourceSpec, TierSpec
from fusecache.pod.arguments import Arguments

log = logging.getLogger(__name__)

VERSION = 1
MAX_BYTES = 1 << 20  # of a ConfigMap, as Kubernetes has it
_FIELDS = {"version", "namespace", "name", "dataset_id", "sources", "tiers", "settings", "read_write", "peers"}
_SOURCE_FIELDS = {"url", "place", "options", "secret_options", "read_only"}
_WRITABLE_MODES = {"file_mode": 0o666, "dir_mode": 0o777}  # as with volumes: several users write to one mount
_DECIDED_HERE = frozenset({"cache_dir", "read_write"})


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """Attributes:
    secret_files: what has to be there before the sources can be asked.
    """

    spec: MountSpec
    secret_files: tuple[str, ...]

    @property
    def missing_secrets(self) -> list[str]:
        return [path for path in self.secret_files if not os.path.exists(path)]


def load(arguments: Arguments) -> DatasetConfig:
    """Raises: CacheError: NOT_FOUND, INVALID."""
    try:
        with open(arguments.config, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CacheError(
            ErrorKind.NOT_FOUND, f"the Dataset's configuration {arguments.config} cannot be read: {error.strerror}"
        ) from error
    return parse(text, arguments)


def parse(text: bytes, arguments: Arguments) -> DatasetConfig:
    """Raises: CacheError(INVALID)."""
    try:
        raw = json.loads(text) if len(text) <= MAX_BYTES else None
        if not isinstance(raw, dict):
            raise ValueError("it is no object, or too large")
        if raw.get("version") != VERSION:
            raise ValueError(f"it has version {raw.get('version')!r}, and this image reads version {VERSION}")
        _refuse_unknown(raw, _FIELDS)
        return _parse(raw, arguments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CacheError(
            ErrorKind.INVALID, f"{arguments.config} is not understood: {said}; operator and image have to be of one version"
        ) from error


def _parse(raw: Mapping[str, Any], arguments: Arguments) -> DatasetConfig:
    read_write = _of_type(raw["read_write"], bool)
    fields: dict[str, Any] = {"uid": 0, "gid": 0, **(_WRITABLE_MODES if read_write else {})}
    for name, value in raw["settings"].items():
        if name not in SETTINGS or name in _DECIDED_HERE:
            raise ValueError(f"setting {name!r} is not known")
        fields[SETTINGS[name].field] = parse_setting(name, _of_type(value, str))
    secret_files: list[str] = []
    sources = tuple(_source(one, arguments, secret_files) for one in raw["sources"])
    if not sources:
        raise ValueError("it names no source")
    spec = MountSpec(
        dataset_id=_name(raw["dataset_id"]),
        mountpoint=f"/{_name(raw['namespace'])}/{_name(raw['name'])}",  # of the node custody knows it
        sources=sources,
        tiers=tuple(_tier(one, arguments) for one in raw["tiers"]),
        state_dir=arguments.cache,
        run_dir=arguments.custody,
        read_write=read_write,
        peers=None if read_write else _peers(raw.get("peers"), arguments),
        **fields,
    )
    return DatasetConfig(spec, tuple(secret_files))


def _source(raw: Mapping[str, Any], arguments: Arguments, secret_files: list[str]) -> SourceSpec:
    _refuse_unknown(raw, _SOURCE_FIELDS)
    options = {str(name): _of_type(value, str) for name, value in raw.get("options", {}).items()}
    for name in options:
        refuse_secret(name)
    for name, file in raw.get("secret_options", {}).items():
        path = os.path.join(arguments.credentials, _name(file))
        options[f"{name}_file"] = path
        secret_files.append(path)
    place = _of_type(raw.get("place", ""), str).strip("/")
    if place and any(part in ("", ".", "..") or "\0" in part for part in place.split("/")):
        raise ValueError(f"place {place!r} is no path below the root of the tree")
    return SourceSpec(_of_type(raw["url"], str), place, options, _of_type(raw.get("read_only", False), bool))


def _peers(raw: Mapping[str, Any] | None, arguments: Arguments) -> PeersSpec | None:
    """A pod that does not know on which node it is goes without the others: they could not tell it from themselves."""
    if raw is None:
        return None
    _refuse_unknown(raw, {"service", "port", "owns"})
    service, port = _of_type(raw["service"], str), _of_type(raw["port"], int)
    if not service or not 0 < port <= 0xFFFF:
        raise ValueError(f"peers are {raw!r}")
    if not arguments.node:
        log.warning("NODE_NAME is not set: blocks are not shared with other nodes")
        return None
    return PeersSpec(service, port, arguments.node, arguments.own_token, arguments.address, _of_type(raw.get("owns", True), bool))


def _tier(raw: Mapping[str, Any], arguments: Arguments) -> TierSpec:
    medium = Medium(raw["medium"])
    base = arguments.memory if medium is Medium.MEM else arguments.cache
    path = os.path.join(base, _name(raw["directory"]))
    tier = TierSpec(path, medium, _of_type(raw["quota_bytes"], int), float(raw["high"]), float(raw["low"]))
    if tier.quota_bytes <= 0 or not 0 < tier.low <= tier.high <= 1:
        raise ValueError(f"tier {raw['directory']!r} has quota {tier.quota_bytes}, high {tier.high}, low {tier.low}")
    return tier


def _name(value: Any) -> str:
    text: str = _of_type(value, str)
    if not text or text in (".", "..") or "/" in text or "\0" in text:
        raise ValueError(f"{text!r} is no name")
    return text


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} has to be of type {kind.__name__}")
    return value


def _refuse_unknown(raw: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"field {unknown[0]!r} is not known")
