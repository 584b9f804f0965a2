"""The YAML configuration of a mount (`--config`): the same keys as the command line, for what is too long to type.

Stateless; read once by `fusecache mount`. Schema (everything is optional, unknown keys are refused, the command line wins):

    sources:                         # replaced as a whole by SOURCE arguments
      - s3://bucket/prefix           # at the root
      - url: nfs://nas/export
        subdir: nas                  # as =SUBDIR, with no rule about "=" or "?"
        options: {timeout: 30s}      # as -o nas:timeout=30s
    mountpoint: /mnt/data
    tiers:                           # replaced as a whole by --tier; [] for none
      - /dev/shm:4Gi:0.95:0.7
      - {path: /mnt/nvme, quota: 200Gi, high: 0.9, low: 0.8, medium: SSD}
    options: {endpoint_url: ...}     # as -o KEY=VALUE, also SUBDIR:KEY
    timeout: 60                      # as --timeout
    engine, access, serve_processes, uid, gid, file_mode, dir_mode, ttl, ... : every setting of settings.py by its name

No secrets: the file is copied into the mount's spec. Name files that hold them (`secret_key_file`).
"""

from __future__ import annotations

import difflib
from typing import Any

from fusecache.base.settings import SETTINGS
from fusecache.cli.config import Config
from fusecache.cli.source_arguments import check_subdir, check_url, split_source
from fusecache.cli.tier_options import TierRequest, make_tier, parse_tier
from fusecache.contract.errors import CacheError, ErrorKind

MAX_BYTES = 64 << 10  # a configuration a person wrote is far smaller; bounds what a wrong file name costs
_OWN_KEYS = ("sources", "mountpoint", "tiers", "options", "timeout")
_OCTAL = ("file_mode", "dir_mode")


def load_config(path: str) -> Config:
    """Read and check a file. Raises: NOT_FOUND, DENIED, INVALID."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise CacheError(ErrorKind.NOT_FOUND, f"configuration file {path} does not exist") from None
    except OSError as error:
        raise CacheError(ErrorKind.DENIED, f"configuration file {path} cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise CacheError(
            ErrorKind.INVALID, f"configuration file {path} is larger than {MAX_BYTES >> 10} KiB; is it the right file?"
        )
    return parse_config(text, path)


def parse_config(text: bytes, path: str) -> Config:
    """Parse a file's text; `path` is for messages. Raises: INVALID."""
    import yaml

    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CacheError(ErrorKind.INVALID, f"configuration file {path} is not YAML: {reason}") from None
    try:
        return _config_of({} if raw is None else raw)
    except CacheError as error:
        raise CacheError(error.kind, f"configuration file {path}: {error}") from None


def _config_of(raw: object) -> Config:
    mapping = _mapping("the file", raw)
    known = (*_OWN_KEYS, *SETTINGS)
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            cure = f"did you mean {near[0]!r}?" if near else "options of sources belong under 'options'"
            raise CacheError(ErrorKind.INVALID, f"unknown key {key!r}; {cure}")
    options = [(key, _scalar(key, value)) for key, value in _mapping("options", mapping.get("options") or {}).items()]
    places = []
    for item in _list("sources", mapping.get("sources") or []):
        place, own = _source(item)
        places.append(place)
        options += own
    tiers = mapping.get("tiers")
    return Config(
        places=tuple(places),
        mountpoint=_optional("mountpoint", mapping),
        tiers=None if tiers is None else tuple(_tier(item) for item in _list("tiers", tiers)),
        options=tuple(options),
        timeout=_optional("timeout", mapping),
        settings=tuple((key, _setting(key, value)) for key, value in mapping.items() if key in SETTINGS),
    )


def _source(item: object) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    if isinstance(item, str):
        return split_source(item), []
    fields = _fields("a source", item, ("url", "subdir", "options"))
    if "url" not in fields:
        raise CacheError(ErrorKind.INVALID, "a source has no url; write url: s3://bucket/prefix")
    subdir = check_subdir(_scalar("subdir", fields.get("subdir") or ""))
    options = _mapping("options", fields.get("options") or {})
    return (check_url(_scalar("url", fields["url"])), subdir), [
        (f"{subdir}:{key}", _scalar(key, value)) for key, value in options.items()
    ]


def _tier(item: object) -> TierRequest:
    if isinstance(item, str):
        return parse_tier(item)
    fields = _fields("a tier", item, ("path", "quota", "high", "low", "medium"))
    if "path" not in fields or "quota" not in fields:
        raise CacheError(ErrorKind.INVALID, "a tier needs path and quota, for example {path: /mnt/nvme, quota: 200Gi}")
    text = {key: _scalar(key, value) for key, value in fields.items()}
    return make_tier(text["path"], text["quota"], text.get("high"), text.get("low"), text.get("medium"))


def _setting(key: str, value: object) -> str:
    """YAML 1.1 reads 0444 as octal and 444 as decimal: a mode that arrives as a number is written back in octal."""
    if key in _OCTAL and isinstance(value, int) and not isinstance(value, bool):
        return f"{value:o}"
    return _scalar(key, value)


def _mapping(what: str, raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise CacheError(ErrorKind.INVALID, f"{what} must be a mapping of names to values, not a {type(raw).__name__}")
    return raw


def _fields(what: str, raw: object, known: tuple[str, ...]) -> dict[str, Any]:
    fields = _mapping(what, raw)
    for key in fields:
        if key not in known:
            raise CacheError(ErrorKind.INVALID, f"{what} has the unknown key {key!r}; known: {', '.join(known)}")
    return fields


def _list(what: str, raw: object) -> list[Any]:
    if not isinstance(raw, list):
        raise CacheError(ErrorKind.INVALID, f"{what} must be a list, not a {type(raw).__name__}")
    return raw


def _scalar(what: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise CacheError(ErrorKind.INVALID, f"{what} must be a text or a number, not a {type(value).__name__}")


def _optional(key: str, mapping: dict[str, Any]) -> str | None:
    value = mapping.get(key)
    return None if value is None else _scalar(key, value)
