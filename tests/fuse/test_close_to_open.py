"""Two mounts of one source: what one has closed, the other sees at its next open."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounted import CommandFailedError, Mounted, run_below
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as store:
        S3Bucket(store.endpoint_url, "shared", ADMIN.access_key, ADMIN.secret_key).create().close()
        yield store


def program(mode: str, text: str) -> list[str]:
    """Return a command that writes `file`."""
    return [sys.executable, "-c", f"open('file', {mode!r}).write({text.encode()!r})"]


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_what_was_closed_elsewhere_is_seen_at_open(disk_path: Path, seaweed: Seaweed, kind: str) -> None:
    options = {"close_to_open": "true", "ttl": "5m"}
    if kind == "s3":
        url = f"s3://shared/{os.urandom(4).hex()}"
        options["endpoint_url"] = seaweed.endpoint_url
    else:
        (disk_path / "source").mkdir()
        url = f"file://{disk_path / 'source'}"
    keys = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}
    with contextlib.ExitStack() as stack:
        mounts = []
        for name in ("one", "two"):
            (disk_path / name).mkdir()
            mounts.append(
                stack.enter_context(
                    Mounted(disk_path / name, [url], options=options, arguments=["--read-write"], environment=keys)
                )
            )
        one, two = mounts
        for number, text in enumerate(("first", "the second", "3rd")):
            writer, reader = (one, two) if number % 2 == 0 else (two, one)
            run_below(writer.mountpoint, program("wb", text), 20)
            assert reader.read_bytes("file") == text.encode()
            assert run_below(reader.mountpoint, ["stat", "-c", "%s", "file"], 20).strip() == b"%d" % len(text)
        run_below(two.mountpoint, program("ab", "more"), 20)
        run_below(one.mountpoint, program("ab", " and more"), 20)
        assert two.read_bytes("file") == b"3rdmore and more"
        run_below(one.mountpoint, ["rm", "file"], 20)
        with pytest.raises(CommandFailedError, match="No such file"):
            two.read_bytes("file")
