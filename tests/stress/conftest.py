"""Fixtures of the stress scenarios: their server and their data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.seaweed import Seaweed


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """One S3 server for all scenarios that leave its identities alone; each makes a bucket of its own."""
    with Seaweed() as server:
        yield server


def make_files(directory: Path, *, small: int, large: int, large_bytes: int, seed: int = 1) -> int:
    """Write random files below a directory: `small` of up to 300 KiB in 10 directories, `large` of about `large_bytes`; return
    the bytes."""
    source = random.Random(seed)
    total = 0
    for number in range(small):
        path = directory / f"dir{number % 10}" / f"small-{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0 if number == 0 else min(300_000, int(source.lognormvariate(10.6, 1.0)))
        path.write_bytes(source.randbytes(size))
        total += size
    for number in range(large):
        path = directory / f"large-{number}"
        size = large_bytes + source.randrange(-1000, 1000)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(size))
        total += size
    return total
