"""Fields of requests: what must be there, and how long it may be. Stateless. (The limits are those of the specification.)"""

from __future__ import annotations

import re
from collections.abc import Mapping

from csi.errors import invalid, out_of_range
from csi.stubs import csi_pb2

MAX_BYTES = 128  # of a string, unless something else is said
MAX_MAP_BYTES = 4096  # of a map: keys and values together
MAX_PATH_BYTES = 4096
DEFAULT_CAPACITY_BYTES = 100 << 30
MAX_CAPACITY_BYTES = 1 << 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def required(value: str, name: str, most: int = MAX_BYTES) -> str:
    """Return a string that is there and no longer than `most` bytes, without control characters."""
    if not value:
        raise invalid(f"{name} is missing")
    if len(value.encode()) > most:
        raise invalid(f"{name} has {len(value.encode())} bytes; {most} are allowed")
    if _CONTROL.search(value):
        raise invalid(f"{name} contains control characters")
    return value


def small_map(values: Mapping[str, str], name: str) -> dict[str, str]:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in values.items())
    if size > MAX_MAP_BYTES:
        raise invalid(f"{name} has {size} bytes of keys and values; {MAX_MAP_BYTES} are allowed")
    return dict(values)


def capacity(wanted: csi_pb2.CapacityRange, at_least: int = 0) -> int:
    """Return the bytes that a volume gets. `at_least`: what it has already. Raises: INVALID_ARGUMENT, OUT_OF_RANGE."""
    required_bytes, limit = wanted.required_bytes, wanted.limit_bytes
    if required_bytes < 0 or limit < 0:
        raise invalid("a capacity is negative")
    if limit and required_bytes > limit:
        raise invalid(f"required_bytes {required_bytes} is more than limit_bytes {limit}")
    if required_bytes > MAX_CAPACITY_BYTES:
        raise out_of_range(f"{required_bytes} bytes are more than the {MAX_CAPACITY_BYTES} that a volume can have")
    if limit and at_least > limit:
        raise out_of_range(f"the volume has {at_least} bytes already, and cannot be made smaller")
    chosen = max(required_bytes, at_least) or DEFAULT_CAPACITY_BYTES
    return min(chosen, limit) if limit else chosen


def fits(wanted: csi_pb2.CapacityRange, bytes_there: int) -> bool:
    """Whether a volume of that size is what is asked for."""
    return wanted.required_bytes <= bytes_there and (not wanted.limit_bytes or bytes_there <= wanted.limit_bytes)
