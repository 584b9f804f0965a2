"""From what the user asked for to a `MountSpec`: flags, `-o`, configuration file and defaults put together.

Stateless. Reads file systems, creates nothing; the directories named in the spec are made when the mount is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from fusecache.base.settings import SETTINGS, parse_duration, parse_setting, reject_misspelt
from fusecache.base.units import format_size
from fusecache.cli.config import Config
from fusecache.cli.places import Places
from fusecache.cli.source_arguments import check_places, split_source
from fusecache.cli.source_options import assign_options
from fusecache.cli.storage import file_system_of
from fusecache.cli.tier_options import (
    TierRequest,
    check_quotas,
    default_tiers,
    existing_ancestor,
    parse_tiers,
    within_memory_limit,
)
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Engine, Medium, MountSpec, SourceSpec, TierSpec
from fusecache.source.registry import normalise_url

DEFAULT_TIMEOUT_SECONDS = 60.0
MOST_SERVE_PROCESSES = 4  # by default: each takes some 15 MiB, and four answer more than most programs ask
_WRITABLE_MODES = {"file_mode": 0o644, "dir_mode": 0o755}  # unless others are given
_MEDIA = (Medium.MEM, Medium.SSD, Medium.HDD)
_ENDPOINT_VARIABLES = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "oss": ("OSS_ENDPOINT",),
}


class MountArguments(NamedTuple):
    """The command line as it was typed: `flags` are the settings given as --flags, None where absent."""

    arguments: Sequence[str]
    tiers: Sequence[str] = ()
    options: Sequence[str] = ()
    config: str | None = None
    timeout: str | None = None
    flags: Mapping[str, str | None] = MappingProxyType({})


class MountPlan(NamedTuple):
    """A mount ready to be made.

    Attributes:
        spec: its `mountpoint` is as the user wrote it, made absolute; the mount command resolves it.
        tier_directories: for each tier of the spec (base, components): what has to be made.
        cache_base: the directory that will hold the state directory.
        warnings: sentences for the user.
    """

    spec: MountSpec
    tier_directories: tuple[tuple[str, tuple[str, ...]], ...]
    cache_base: str
    timeout_seconds: float
    warnings: tuple[str, ...] = ()


def build_plan(given: MountArguments, places: Places) -> MountPlan:
    """Put everything together. Raises: CacheError with a cure, for everything that can be known before anything is started."""
    config = _load_config(given.config)
    source_places, mountpoint = _positional(given.arguments, config)
    settings, source_pairs = _settings(given, config)
    sources = assign_options(source_places, source_pairs)
    dataset_id = identify(sources, settings, places.environment)
    cache_base = os.path.abspath(settings.pop("cache_dir", None) or os.path.join(places.cache_home, "fusecache"))
    state_dir = os.path.join(cache_base, dataset_id)
    requests = _requested_tiers(given, config)
    if requests is None:
        requests = default_tiers(places.shared_memory, state_dir)
    tiers, directories, warnings = _place_tiers(requests, places.uid, dataset_id)
    fields = {
        "serve_processes": default_serve_processes(),
        **_owner(places, settings),
        **(_WRITABLE_MODES if settings.get("read_write") else {}),
        **{SETTINGS[name].field: value for name, value in settings.items()},
    }
    spec = MountSpec(
        dataset_id=dataset_id,
        mountpoint=os.path.abspath(mountpoint),
        sources=tuple(sources),
        tiers=tiers,
        state_dir=state_dir,
        run_dir="",
        **fields,
    )
    _check_together(spec)
    text = given.timeout if given.timeout is not None else config.timeout
    timeout = DEFAULT_TIMEOUT_SECONDS if text is None else parse_duration("timeout", text)
    return MountPlan(spec, directories, cache_base, timeout, tuple(warnings))


def default_serve_processes() -> int:
    """Return one for each processor that this process may use, as each answers with one thread; four are enough for most."""
    return min(MOST_SERVE_PROCESSES, len(os.sched_getaffinity(0)))


def _load_config(path: str | None) -> Config:
    if path is None:
        return Config()
    from fusecache.cli.config_file import load_config

    return load_config(path)


def _positional(arguments: Sequence[str], config: Config) -> tuple[list[tuple[str, str]], str]:
    """Return sources and mount point: the last argument is the mount point unless the file names it and there are none."""
    if not arguments and config.mountpoint is not None:
        sources, mountpoint = list(config.places), config.mountpoint
    elif not arguments:
        raise CacheError(ErrorKind.INVALID, "no mount point; write fusecache mount SOURCE... MOUNTPOINT")
    else:
        mountpoint = arguments[-1]
        sources = [split_source(text) for text in arguments[:-1]] or list(config.places)
    if not mountpoint:
        raise CacheError(ErrorKind.INVALID, "the mount point is empty; name a directory (is a variable of a script not set?)")
    if "://" in mountpoint:
        raise CacheError(ErrorKind.INVALID, f"the last argument must be the mount point, a directory, but it is {mountpoint}")
    if not sources:
        raise CacheError(ErrorKind.INVALID, f"no source to mount at {mountpoint}; write fusecache mount SOURCE... MOUNTPOINT")
    check_places(sources)
    return sources, mountpoint


def _settings(given: MountArguments, config: Config) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the settings by name, and the options that belong to sources in the order of growing precedence."""
    text = dict(config.settings)
    source_pairs: list[tuple[str, str]] = []
    typed = [split_option(option) for option in given.options]
    for key, value in [*config.options, *typed]:
        if key in SETTINGS:
            text[key] = value
        else:
            reject_misspelt(key)
            source_pairs.append((key, value))
    text.update({name: value for name, value in given.flags.items() if value is not None})
    return {name: parse_setting(name, value) for name, value in text.items()}, source_pairs


def split_option(option: str) -> tuple[str, str]:
    """`KEY=VALUE`; a bare KEY is switched on."""
    key, sign, value = option.partition("=")
    if not key or key != key.strip():
        raise CacheError(ErrorKind.INVALID, f"option {option.partition('=')[0]!r} has no name; write -o KEY=VALUE")
    return key, value if sign else "true"


def _requested_tiers(given: MountArguments, config: Config) -> list[TierRequest] | None:
    if given.tiers:
        return parse_tiers(given.tiers)
    return None if config.tiers is None else list(config.tiers)


def identify(sources: Sequence[SourceSpec], settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the dataset id: equal for mounts that can share a cache, i.e. the same places, endpoints and block sizes."""
    parts: list[str] = []
    for source in sorted(sources, key=lambda source: source.subdir):
        url = normalise_url(source.url)
        endpoints = sorted(f"{key}={value}" for key, value in source.options.items() if "endpoint" in key.lower())
        if not endpoints:
            variables = _ENDPOINT_VARIABLES.get(url.split(":", 1)[0], ())
            endpoints = [environment[name] for name in variables if environment.get(name)][:1]
        parts += [url, source.subdir, *endpoints, ""]
    parts += [f"{name}={settings[name]}" for name in ("block_size", "granule_size") if name in settings]
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


def _place_tiers(
    requests: Sequence[TierRequest], uid: int, dataset_id: str
) -> tuple[tuple[TierSpec, ...], tuple[tuple[str, tuple[str, ...]], ...], list[str]]:
    """Look at the file system of each tier and put the tiers in the order MEM, SSD, HDD."""
    found = []
    warnings = []
    for request in requests:
        where = file_system_of(existing_ancestor(request.base))
        found.append((request, where, request.medium or where.medium))
    check_quotas([(request, where) for request, where, _ in found])
    found.sort(key=lambda item: _MEDIA.index(item[2]))
    tiers = []
    directories = []
    for request, where, medium in found:
        components = request.own_directory or (f"fusecache-{uid}", dataset_id)
        quota = within_memory_limit(request.quota_bytes) if where.medium is Medium.MEM else request.quota_bytes
        if quota < request.quota_bytes:
            warnings.append(
                f"tier {request.base}: quota lowered from {format_size(request.quota_bytes)} to {format_size(quota)},"
                " because its pages count towards this cgroup's memory limit"
            )
        tiers.append(TierSpec(os.path.join(request.base, *components), medium, quota, request.high, request.low))
        directories.append((request.base, components))
    if len({tier.path for tier in tiers}) < len(tiers):
        raise CacheError(ErrorKind.INVALID, "two tiers lie in the same directory; give each its own")
    return tuple(tiers), tuple(directories), warnings


def _owner(places: Places, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the fields that depend on who mounts. An owner that was named is shown everywhere."""
    return {
        "uid": places.uid,
        "gid": places.gid,
        "allow_other": places.uid == 0,
        "override_owner": "uid" in settings or "gid" in settings,
    }


def _check_together(spec: MountSpec) -> None:
    """Refuse settings that are right one by one and wrong together."""
    if spec.block_size_bytes % spec.granule_size_bytes:
        sizes = f"block_size ({format_size(spec.block_size_bytes)}), granule_size ({format_size(spec.granule_size_bytes)})"
        raise CacheError(ErrorKind.INVALID, f"{sizes}: a block must be a whole number of granules")
    if spec.read_write and spec.engine is Engine.PYFUSE3:
        raise CacheError(ErrorKind.UNSUPPORTED, "the pyfuse3 engine mounts read-only; leave --engine out to write")
    if spec.allow_other and os.geteuid() != 0:
        from fusecache.custody.fuse_mount import may_allow_other

        if not may_allow_other():
            message = (
                "allow_other needs the line user_allow_other in /etc/fuse.conf; ask the administrator, or leave the option out"
            )
            raise CacheError(ErrorKind.DENIED, message)
