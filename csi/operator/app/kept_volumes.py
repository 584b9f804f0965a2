"""What of a volume stays as it was made: the API server refuses to change it, and refuses all else of the object with it.

Pure functions over a PV or a claim as it is to be (server-side apply) and as it is. No state.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from csi.operator.formats import parse_quantity

# By kind, the paths below `spec`; the API server lets a claim grow only if its StorageClass, which is there, allows that. What a
# volume shows (volumeAttributes) is not among them: to go on with something else than what was asked for would be wrong data.
_KEPT: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "PersistentVolume": (("csi", "readOnly"), ("nodeAffinity",)),
    "PersistentVolumeClaim": (("accessModes",), ("resources", "requests", "storage")),
}


def as_it_can_be(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return `wanted` with what `there` keeps in any case, and what that is, in words."""
    raw: dict[str, Any] = copy.deepcopy(dict(wanted))
    kept = []
    for path in _KEPT[raw["kind"]]:
        asked, is_so = _get(raw["spec"], path), _get(there["spec"], path)
        if path == ("nodeAffinity",) and is_so is None:  # may be set once
            continue
        if path == ("csi", "readOnly"):  # a field that is false is left out
            asked, is_so = bool(asked), bool(is_so)
        if not _is_same(asked, is_so):
            _set(raw["spec"], path, is_so)
            kept.append(f"{'.'.join(path)} of the {raw['kind']} stays {_shown(is_so)} instead of {_shown(asked)}")
    return raw, kept


def in_step(volume: Mapping[str, Any], claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return a PV, as it is to be, with size and modes of its claim: a volume may change in these, and a claim goes by them."""
    spec = {
        **volume["spec"],
        "accessModes": claim["spec"]["accessModes"],
        "capacity": claim["spec"]["resources"]["requests"],
    }
    return {**volume, "spec": spec}


def shows(volume: Mapping[str, Any]) -> dict[str, str]:
    """Return which Dataset and which of its directories a PV shows (the driver's attributes)."""
    return dict(volume["spec"].get("csi", {}).get("volumeAttributes") or {})


def _is_same(asked: Any, is_so: Any) -> bool:
    if isinstance(asked, str) and isinstance(is_so, str):  # the API server writes quantities in its own way
        return parse_quantity(asked) == parse_quantity(is_so)
    return bool(asked == is_so)


def _get(spec: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        spec = (spec or {}).get(part)
    return spec


def _set(spec: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        spec = spec[part]
    spec[path[-1]] = value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(str, value))
    if isinstance(value, Mapping):
        expressions = [one for term in value["required"]["nodeSelectorTerms"] for one in term.get("matchExpressions", ())]
        return ", ".join(f"{one['key']}={'/'.join(one['values'])}" for one in expressions)
    return "any" if value is None else str(value)
