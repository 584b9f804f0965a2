"""Applies objects unless they are what was applied before: at rest, the API server hears next to nothing.

Somebody may have changed or deleted what is ours, so that everything is applied again in time, one Dataset after the other: with
few Datasets every ten minutes, with 500 every four hours, and at once when an operator starts.

State: a digest of what was applied for each Dataset, when, and the versions it got; tokens that were read. Losing it costs calls,
nothing else. Used from one event loop.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csi.operator.app.known import Key
from csi.operator.objects import Objects
from csi.operator.render.credentials import Tokens

AGAIN_SECONDS = 600.0
EACH_SECONDS = 30.0  # between two Datasets: each is a dozen calls


@dataclass(frozen=True, slots=True)
class _Done:
    digest: str
    at: float
    secret_versions: Mapping[str, str]


class Applied:
    def __init__(self, objects: Objects, clock: Callable[[], float] = time.monotonic) -> None:
        self._objects, self._clock = objects, clock
        self._done: dict[Key, _Done] = {}
        self._tokens: dict[Key, Tokens] = {}
        self._again_at = -EACH_SECONDS  # when something was last applied again

    def needs(self, key: Key, raws: Sequence[Mapping[str, Any]]) -> bool:
        """Whether `apply` would call the API server."""
        before = self._done.get(key)
        return before is None or before.digest != _digest(raws) or self._is_due(before)

    async def apply(
        self, key: Key, raws: Sequence[Mapping[str, Any]], fitted: Sequence[Mapping[str, Any]] | None = None
    ) -> Mapping[str, str]:
        """Bring a Dataset's objects to what they are to be, or as near as they get (`fitted`). Return the versions of Secrets
        among them, by name. Raises: ApiError, OSError."""
        if not self.needs(key, raws):
            return self._done[key].secret_versions
        before = self._done.pop(key, None)
        if before is not None and before.digest == _digest(raws):
            self._again_at = self._clock()
        versions = {}
        for raw in raws if fitted is None else fitted:
            applied = await self._objects.apply(raw)
            if raw["kind"] == "Secret":
                versions[raw["metadata"]["name"]] = applied["metadata"]["resourceVersion"]
        self._done[key] = _Done(_digest(raws), self._clock(), versions)
        return versions

    def _is_due(self, done: _Done) -> bool:
        now = self._clock()
        age = now - done.at
        return age >= max(AGAIN_SECONDS, EACH_SECONDS * len(self._done)) and now - self._again_at >= EACH_SECONDS

    def tokens(self, key: Key) -> Tokens | None:
        """Return those of a Dataset that were read or made before."""
        return self._tokens.get(key)

    def note_tokens(self, key: Key, tokens: Tokens) -> None:
        self._tokens[key] = tokens

    def forget(self, key: Key) -> None:
        """What was made for a Dataset is gone, or goes."""
        self._done.pop(key, None)
        self._tokens.pop(key, None)


def _digest(raws: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(raws, sort_keys=True).encode()).hexdigest()
