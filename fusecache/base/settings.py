"""The settings of a mount: one table from their names to the fields of `MountSpec`, for flags, `-o` and the configuration file.

Stateless. A setting that is not in the table belongs to a source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fusecache.base.units import KIB, MIB, parse_size
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Access, Engine, Verify, WriteMode

NEAR = 0.85  # how alike a source's option may be to a setting before it is taken for a typing error


class Setting(NamedTuple):
    """`field` of MountSpec ("" for what the command itself uses); `parse` raises ValueError; `expected` says what must be."""

    field: str
    parse: Callable[[str], Any]
    expected: str


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on", ""):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if match is None:
        raise ValueError
    return float(match[1]) * {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}[match[2]]


def _positive_seconds(text: str) -> float:
    seconds = _seconds(text)
    if seconds <= 0:
        raise ValueError
    return seconds


def _size(minimum: int, maximum: int, multiple: int = 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        size = parse_size(text)
        if not minimum <= size <= maximum or size % multiple:
            raise ValueError
        return size

    return parse


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not minimum <= number <= maximum:
            raise ValueError
        return number

    return parse


def _mode(text: str) -> int:
    mode = int(text, 8)
    if not 0 <= mode <= 0o777:
        raise ValueError
    return mode


def _log_level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError
    return text.upper()


_BOOLEAN = "true or false"
_SECONDS = "a duration such as 30, 30s, 500ms or 5m"
SETTINGS: Mapping[str, Setting] = {
    "engine": Setting("engine", lambda text: Engine(text.lower()), "auto, native or pyfuse3"),
    "access": Setting("access", lambda text: Access(text.lower()), "auto, openless or passthrough"),
    "serve_processes": Setting("serve_processes", _whole(1, 64), "a number from 1 to 64"),
    "uid": Setting("uid", _whole(0, (1 << 32) - 2), "a numeric user id"),
    "gid": Setting("gid", _whole(0, (1 << 32) - 2), "a numeric group id"),
    "override_owner": Setting("override_owner", _boolean, _BOOLEAN),
    "file_mode": Setting("file_mode", _mode, "octal permissions such as 0444"),
    "dir_mode": Setting("dir_mode", _mode, "octal permissions such as 0555"),
    "ttl": Setting("ttl_seconds", _seconds, _SECONDS),
    "negative_ttl": Setting("negative_ttl_seconds", _seconds, _SECONDS),
    "verify": Setting("verify", lambda text: Verify(text.lower()), "reads or always"),
    "block_size": Setting("block_size_bytes", _size(128 * KIB, 64 * MIB, 128 * KIB), "a multiple of 128Ki up to 64Mi"),
    "granule_size": Setting("granule_size_bytes", _size(4 * KIB, 1 * MIB, 4 * KIB), "a multiple of 4Ki up to 1Mi"),
    "deadline": Setting("deadline_seconds", _positive_seconds, _SECONDS),
    "read_write": Setting("read_write", _boolean, _BOOLEAN),
    "write_mode": Setting("write_mode", lambda text: WriteMode(text.lower()), "through or back"),
    "write_back_delay": Setting("write_back_delay_seconds", _seconds, _SECONDS),
    "stage_quota": Setting("stage_quota_bytes", _size(16 * MIB, 1 << 60), "a size of at least 16Mi"),
    "close_to_open": Setting("close_to_open", _boolean, _BOOLEAN),
    "allow_other": Setting("allow_other", _boolean, _BOOLEAN),
    "sync_listing": Setting("sync_listing", _boolean, _BOOLEAN),
    "prefetch": Setting("prefetch", _boolean, _BOOLEAN),
    "fetch_memory": Setting("fetch_memory_bytes", _size(16 * MIB, 1 << 40), "a size of at least 16Mi"),
    "log_level": Setting("log_level", _log_level, "DEBUG, INFO, WARNING or ERROR"),
    "cache_dir": Setting("", lambda text: text, "a directory"),
    "debug_no_resend": Setting("debug_no_resend", _boolean, _BOOLEAN),
}


def parse_setting(name: str, text: str) -> Any:
    """Return the value of a setting in the type of its field. Raises: INVALID."""
    setting = SETTINGS[name]
    try:
        return setting.parse(text)
    except (ValueError, CacheError):
        raise CacheError(ErrorKind.INVALID, f"{name} is {text!r}; it must be {setting.expected}") from None


def parse_duration(name: str, text: str) -> float:
    """Return the positive seconds of a duration that is no setting of the mount. Raises: INVALID."""
    try:
        return _positive_seconds(text)
    except ValueError:
        raise CacheError(ErrorKind.INVALID, f"{name} is {text!r}; it must be {_SECONDS}") from None


def reject_misspelt(key: str) -> None:
    """Refuse a source's option that is nearly the name of a setting. Raises: INVALID."""
    import difflib

    near = difflib.get_close_matches(key, SETTINGS, 1, NEAR)
    if near:
        raise CacheError(ErrorKind.INVALID, f"unknown option {key!r}; did you mean {near[0]!r}?")
