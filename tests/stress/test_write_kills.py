"""Serve and fetch are killed again and again under writers: nothing that was acknowledged is lost, and no call fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.killer import Killer
from tests.support.mounted import Mounted
from tests.support.plain_store import PlainStore
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed
from tests.support.writers import Writers, Written

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.timed]

Keep = Callable[[str, str, str, str], None]
INTERVAL_SECONDS = 0.7
SHORT = (("file", "back"), ("s3", "through"))  # what `make test` has time for
FIGURES = {("file", "through"): "26a", ("file", "back"): "26b", ("s3", "through"): "26c", ("s3", "back"): "26d"}
KEYS = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}


def write_under_kills(mounted: Mounted, seconds: float) -> tuple[Written, Killer]:
    """Let writers of every kind write while daemons are killed; return what they were told, after everything was uploaded."""
    with mounted:
        writers = Writers(mounted.mountpoint, seconds)
        try:
            with Killer(mounted, ["serve", "fetch"], INTERVAL_SECONDS) as killer:
                time.sleep(seconds)
            written = writers.collect()
        finally:
            writers.kill()
        if written.errors or written.wrong or written.hung:
            print(mounted.log())
        mounted.umount()
    return written, killer


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["file", "s3"])
@pytest.mark.parametrize("mode", ["through", "back"])
def test_serve_and_fetch_are_killed_under_writers(
    disk_path: Path, seaweed: Seaweed, full_length: bool, promise: Keep, kind: str, mode: str
) -> None:
    if not full_length and (kind, mode) not in SHORT:
        pytest.skip("at full length only")
    seconds = 12.0 if full_length else 4.0
    options = {"write_mode": mode, "write_back_delay": "300ms"}
    if kind == "file":
        (disk_path / "source").mkdir()
        store = PlainStore(f"file://{disk_path / 'source'}", {})
    else:
        name = f"kills-{os.urandom(4).hex()}"
        S3Bucket(seaweed.endpoint_url, name, ADMIN.access_key, ADMIN.secret_key).create().close()
        keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        store = PlainStore(f"s3://{name}", {"endpoint_url": seaweed.endpoint_url, **keys})
        options["endpoint_url"] = seaweed.endpoint_url
    mounted = Mounted(disk_path, [store.url], options=options, arguments=["--read-write"], environment=KEYS)
    written, killer = write_under_kills(mounted, seconds)
    assert len(killer.kills) >= seconds / INTERVAL_SECONDS / 2, "too few kills landed"
    written.assert_clean()
    lost = written.lost(store.read)
    store.close()
    assert lost == []
    promise(
        FIGURES[kind, mode],
        f"serve and fetch killed every {INTERVAL_SECONDS} s under writers, {kind}, writing {mode}",
        f"{len(killer.kills)} kills, {written.calls} steps of writers, {len(written.files)} files at the end: 0 lost, 0 wrong,"
        f" 0 calls failed, longest {written.longest_seconds:.1f} s",
        "0 acknowledged writes lost, 0 wrong bytes, 0 failed calls",
    )
