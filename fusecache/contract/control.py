"""The control protocol of one mount: JSON lines over `control.sock`, answered by fetch.

A client sends one object and reads objects until one has "done": true. Paths are relative to the root of the tree, "" is the
root; names that are not UTF-8 travel with surrogate escapes.

| request | answers |
|---|---|
| {"do": "status"} | {"done": true, ...} with the fields of `Status` |
| {"do": "warm", ...} | often `Progress`; at the end with "done": true, "failures", "failed": [[path, reason], ...] |
| {"do": "drop", "paths": [...]} | {"done": true, "bytes": freed} |
| {"do": "refresh", "paths": [...]} | {"done": true, "changed": entries that differ now} |
| {"do": "look", "paths": [...]} | {"done": true} when the source was asked about each name on the way; NOT_FOUND |
| {"do": "usage", "paths": [DIRECTORY]} | {"done": true, "files", "total_bytes", "listing_complete"}, of it and all below |
| {"do": "metrics"} | {"done": true, "text": Prometheus exposition} |
What a warm is about says warm_request.py. "failures" counts all, "failed" names the first 1,000.
Progress is {"files", "files_total", "bytes", "bytes_total", "listing": bool}. At the end "full" says that there was no room for
all, if the request said "until_full"; "owners" names the nodes between which the data is shared, if it said "owned".
An error is {"done": true, "error": SENTENCE, "kind": ErrorKind}.
"""

from __future__ import annotations

from typing import TypedDict


class TierStatus(TypedDict):
    path: str
    medium: str
    quota_bytes: int
    used_bytes: int
    high: float
    low: float
    errors: int  # since fetch started
    last_error: str


class Pids(TypedDict):
    supervisor: int
    fetch: int
    serve: list[int]


class Status(TypedDict):
    """What `fusecache status --json` prints for one mount; scripts depend on every name."""

    mountpoint: str
    sources: list[str]
    state: str  # "ready", "listing" (totals not complete yet), "degraded" (store or a tier failing), "dead"
    engine: str
    access: str
    pids: Pids
    tiers: list[TierStatus]
    files: int
    total_bytes: int
    cached_bytes: int
    cached_percentage: float  # 0.0-100.0
    hit_bytes: int
    miss_bytes: int
    remote_bytes: int
    remote_requests: int
    peers: list[str]  # nodes that own blocks of the dataset, as this one sees it, itself among them; none: it is alone
    peer_bytes: int  # got from other nodes
    peer_hit_bytes: int  # of them, what was cached there
    peer_requests: int
    peer_errors: int  # of these requests, those that the source had to be asked instead
    peer_served_bytes: int  # given to other nodes
    errors: int
    checksum_failures: int
    index_errors: int  # changes of the index that found no room, since fetch started
    restarts: int
    write_mode: str  # "through", "back"; "" for a mount that is read-only
    pending_files: int  # written and not in the store yet
    pending_bytes: int
    kept_files: int  # in kept_dir: they cannot be uploaded, see `fusecache recover`
    kept_dir: str
    hidden: int
    listing_complete: bool
    last_error: str
