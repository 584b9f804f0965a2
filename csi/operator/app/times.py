"""The time as Kubernetes writes it. Stateless."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age_seconds(raw: Mapping[str, Any]) -> float:
    """Return for how long an object has been there."""
    made = datetime.datetime.fromisoformat(raw["metadata"]["creationTimestamp"])
    return (datetime.datetime.now(datetime.UTC) - made).total_seconds()
