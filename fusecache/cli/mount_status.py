"""The status of mounts as scripts see it: what fetch answers, or what is known where it does not.

Owns no state; each mount is asked in a thread of its own, so that one that hangs costs no other more than the timeout.
"""

from __future__ import annotations

import os
import threading
from typing import cast

from fusecache.cli.control_client import call
from fusecache.contract.control import Pids, Status, TierStatus
from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import KEPT_DIR, SPEC
from fusecache.custody.mount_table import MountRecord

ANSWER_SECONDS = 5.0


def statuses(records: list[MountRecord], timeout_seconds: float = ANSWER_SECONDS) -> list[Status]:
    """Return the status of each mount, in order. Never hangs and never raises for a mount that is ill: its state says so."""
    results: list[Status | None] = [None] * len(records)

    def run(index: int, record: MountRecord) -> None:
        results[index] = status_of(record, timeout_seconds)

    threads = [threading.Thread(target=run, args=pair, daemon=True, name="status") for pair in enumerate(records)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_seconds + 1)
    return [
        known_without_fetch(record, "no answer") if result is None else result
        for result, record in zip(results, records, strict=True)
    ]


def status_of(record: MountRecord, timeout_seconds: float) -> Status:
    """Ask fetch, and lay what the supervisor knows over it: pids, restarts, and whether a daemon cannot start."""
    status = known_without_fetch(record, record.last_error)
    if not record.is_supervised and not any(process.is_alive for process in record.daemons):
        return status
    try:
        answer = call(record.run_dir, {"do": "status"}, timeout_seconds)
    except CacheError as error:
        status["last_error"] = record.last_error or str(error)
        return status
    known = {name: value for name, value in answer.items() if name in Status.__annotations__}
    status = cast(Status, {**status, **known})
    _write_ratios_as_asked(status["tiers"], record.run_dir)
    status["pids"] = _pids(record)
    status["restarts"] = record.restarts
    status["state"] = _state(record, status["state"])
    status["last_error"] = status["last_error"] or record.last_error
    return status


def known_without_fetch(record: MountRecord, last_error: str) -> Status:
    """Return what the record and the spec say; counters are 0."""
    return Status(
        mountpoint=record.mountpoint,
        sources=record.sources,
        state=_state(record, "degraded"),
        engine=record.engine,
        access=record.access,
        pids=_pids(record),
        tiers=_tiers(record.run_dir),
        files=0,
        total_bytes=0,
        cached_bytes=0,
        cached_percentage=0.0,
        hit_bytes=0,
        miss_bytes=0,
        remote_bytes=0,
        remote_requests=0,
        peers=[],
        peer_bytes=0,
        peer_hit_bytes=0,
        peer_requests=0,
        peer_errors=0,
        peer_served_bytes=0,
        errors=0,
        checksum_failures=0,
        index_errors=0,
        restarts=record.restarts,
        write_mode="",
        pending_files=0,
        pending_bytes=0,
        kept_files=0,
        kept_dir=os.path.join(record.state_dir, KEPT_DIR),
        hidden=0,
        listing_complete=False,
        last_error=last_error,
    )


def _state(record: MountRecord, said: str) -> str:
    """A mount without its supervisor is dead even while its daemons still answer: nobody would replace them."""
    if not record.is_supervised:
        return "dead"
    return "degraded" if record.state == "degraded" else said


def _pids(record: MountRecord) -> Pids:
    return Pids(
        supervisor=record.supervisor.pid if record.is_supervised else 0,
        fetch=record.fetch.pid if record.fetch is not None and record.fetch.is_alive else 0,
        serve=[process.pid for process in record.serve if process.is_alive],
    )


def _write_ratios_as_asked(tiers: list[TierStatus], run_dir: str) -> None:
    """fetch reckons in whole bytes: 0.95 of a quota comes back as 0.94999."""
    asked = {tier["path"]: tier for tier in _tiers(run_dir)}
    for tier in tiers:
        if tier["path"] in asked:
            tier["high"], tier["low"] = asked[tier["path"]]["high"], asked[tier["path"]]["low"]


def _tiers(run_dir: str) -> list[TierStatus]:
    try:
        spec = MountSpec.load(f"{run_dir}/{SPEC}")
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [
        TierStatus(
            path=tier.path,
            medium=tier.medium.value,
            quota_bytes=tier.quota_bytes,
            used_bytes=0,
            high=tier.high,
            low=tier.low,
            errors=0,
            last_error="",
        )
        for tier in spec.tiers
    ]
