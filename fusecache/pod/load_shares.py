"""Which workers are to load their part of the data, and whether the parts that were loaded make up the whole. Pure.

State: who has loaded, as one of which nodes, and since when the workers do not agree who shares the data. A worker loads what it
owns of what it is asked for. It is asked again when it sees other nodes than it had loaded with: what is cached costs nothing.

Nothing is left out as soon as each node that some worker has named has loaded: of nodes that disagree, the one that comes first
for a block (peer/ring.py) is the owner in its own eyes, whomever else it sees. So disagreement costs time and room, and no data;
workers that never come to one view are not asked for ever. Where nodes do not share, a view is empty, and a part is everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fusecache.pod.http_client import Peer
from fusecache.pod.workers import Seen, View

SETTLE_SECONDS = 10.0  # pods that are started together find each other in 1 to 5 s; one that was killed is back in 3
MOST_TIMES = 5  # that a worker is asked while the same workers are there; a guess


class LoadShares:
    """Call `look` before anything else, whenever somebody looked. Times are those of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._most = 0  # workers at a time
        self._done: dict[Peer, View] = {}
        self._times: Counter[Peer] = Counter()
        self._unsettled_since: float | None = None

    def look(self, seen: Seen, now: float) -> None:
        if set(seen.views) != set(self._seen.views):
            self._times.clear()
        self._seen = seen
        self._most = max(self._most, len(seen.views))
        is_settled = not seen.is_shared or (seen.is_agreed and self.has_everybody)
        if is_settled or not seen.views:
            self._unsettled_since = None
        elif self._unsettled_since is None:
            self._unsettled_since = now

    def note_done(self, worker: Peer, owners: View) -> None:
        self._done[worker] = owners
        self._times[worker] += 1

    @property
    def is_shared(self) -> bool:
        return self._seen.is_shared or any(self._done.values())

    @property
    def has_everybody(self) -> bool:
        """Whether nobody is missing who was there, and nobody may still turn out to be a worker."""
        return not self._seen.unknown and not self.lacks_workers

    @property
    def lacks_workers(self) -> bool:
        """Whether there were more of them."""
        return len(self._seen.views) < self._most

    def due(self, now: float) -> dict[Peer, View]:
        """Return the workers to ask, with what they see: none for a while where they do not agree."""
        if self._unsettled_since is not None and now - self._unsettled_since < SETTLE_SECONDS:
            return {}
        return {worker: view for worker, view in self._seen.views.items() if not self._has_loaded(worker, view)}

    def outdated(self, loading: Mapping[Peer, View]) -> list[Peer]:
        """Return those that load the part of another set of nodes than the one that all agree upon now."""
        if not self._seen.is_agreed:
            return []
        views = self._seen.views
        return [worker for worker, view in loading.items() if worker in views and views[worker] != view]

    @property
    def is_complete(self) -> bool:
        """Whether what the workers that are there have loaded is everything."""
        if not self._done or not all(self._has_loaded(worker, view) for worker, view in self._seen.views.items()):
            return False
        return not self.lack

    @property
    def lack(self) -> str:
        """Return in words who has a part and has not loaded it, "" for nobody."""
        named = {node for worker in self._seen.views for node in self._done.get(worker, ())}
        if len(named) <= len(self._seen.views):
            return ""
        return f"nodes {', '.join(sorted(named))} share the data, and {len(self._seen.views)} of them answer"

    def _has_loaded(self, worker: Peer, view: View) -> bool:
        return worker in self._done and (self._done[worker] == view or self._times[worker] >= MOST_TIMES)
