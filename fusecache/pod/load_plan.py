"""What a loader is to load, as the operator wrote it down: the environment variable FUSECACHE_LOAD of its pod, JSON, version 1.

| field | meaning |
|---|---|
| version | 1 |
| service | the name under which DNS has the addresses of the Dataset's cache pods |
| port | where each of them listens |
| listen_port | where the loader tells how far it is; that of cache pods if it is left out |
| targets | list of {"path", "is_pattern"}, in the tree of the Dataset that has the cache |
| refresh | the source is asked first what is new |
| metadata_only, dry_run, name_filter, file_list, list_root, parallel, copies | as in contract/warm_request.py |

Stateless. What is unknown is refused: it would be meant for another version of this program.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.warm_request import WarmRequest

VERSION = 1
_PASSED_ON = ("metadata_only", "dry_run", "name_filter", "file_list", "list_root", "parallel", "copies")
_FIELDS = {"version", "service", "port", "listen_port", "targets", "refresh", *_PASSED_ON}


@dataclass(frozen=True, slots=True)
class LoadPlan:
    service: str
    port: int
    listen_port: int
    request: WarmRequest
    refresh: bool = False

    @classmethod
    def parse(cls, text: str) -> LoadPlan:
        """Raises: CacheError(INVALID)."""
        try:
            raw = json.loads(text)
            if raw["version"] != VERSION:
                raise ValueError(f"it has version {raw['version']!r}, and this image reads version {VERSION}")
            if unknown := sorted(set(raw) - _FIELDS):
                raise ValueError(f"field {unknown[0]!r} is not known")
            return cls(
                service=str(raw["service"]),
                port=int(raw["port"]),
                listen_port=int(raw.get("listen_port", raw["port"])),
                request=_request(raw),
                refresh=raw.get("refresh", False) is True,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise CacheError(
                ErrorKind.INVALID, f"the plan of the load is not understood: {said}; operator and image have to be of one version"
            ) from error


def _request(raw: dict[str, Any]) -> WarmRequest:
    """A cache that is too small for all of it is filled as far as it goes."""
    targets = [(str(one["path"]), one.get("is_pattern", False) is True) for one in raw["targets"]]
    return WarmRequest.parse(
        {
            "paths": [path for path, is_pattern in targets if not is_pattern],
            "patterns": [path for path, is_pattern in targets if is_pattern],
            "until_full": True,
            **{name: raw[name] for name in _PASSED_ON if name in raw},
        }
    )
