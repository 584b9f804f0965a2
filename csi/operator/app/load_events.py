"""What makes a load with the policy OnEvent run again: other mounts, another annotation, other files. Pure.

An event is `TOLD:FILES` in the status: a digest of mounts and annotation, and one of number and size of the files, empty
while they are not known. A file that is replaced by one of the same printed size is not noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from csi.operator.formats import CALCULATING


def event_of(dataset: Mapping[str, Any], trigger: str) -> str:
    """`dataset`: as it is in the cluster."""
    status = dataset.get("status", {})
    files = [status.get("ufsTotal", ""), status.get("fileNum", "")]
    is_known = all(files) and CALCULATING not in files
    return f"{_digest([dataset.get('spec', {}).get('mounts'), trigger])}:{_digest(files) if is_known else ''}"


def happened(before: str, now: str) -> bool:
    """Whether there is something to load: what was not known before is no event."""
    told, _, files = before.partition(":")
    told_now, _, files_now = now.partition(":")
    return told != told_now or bool(files and files_now and files != files_now)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
