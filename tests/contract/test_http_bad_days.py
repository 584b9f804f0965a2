"""The HTTP source before a web server on a bad day: every error is one that a retry mends, and no byte is wrong."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError
from fusecache.source.registry import open_source
from tests.contract.source_suite import content
from tests.support.fault_plan import OF_READERS
from tests.support.fault_proxy import Fault, FaultProxy, Plan
from tests.support.nginx import nginx

KINDS = tuple(kind for kind in OF_READERS if kind not in (Fault.FLIP, Fault.SHORT_LIST, Fault.REPEAT_TOKEN))
READS = 150


@pytest.mark.requires("nginx")
@pytest.mark.slow
def test_three_requests_in_ten_meet_a_fault(tmp_path: Path) -> None:
    body = content(4 << 20, "bad day")
    (tmp_path / "file").write_bytes(body)
    plan = Plan.evenly(0.3, *KINDS, seed=5, slow_seconds=0.1)
    errors: Counter[str] = Counter()
    rng = random.Random(1)
    with nginx(tmp_path) as url, FaultProxy(url, plan) as proxy:
        source = open_source(proxy.url, {"read_timeout": "0.5"}, {})

        def read(version: bytes, offset: int, length: int) -> bytes:
            for _ in range(plan.most_in_a_row + 1):
                try:
                    return bytes(source.read(b"file", version, offset, length))
                except CacheError as error:
                    if not error.is_retryable:
                        raise
                    errors[error.kind.name] += 1
            raise AssertionError("the proxy lets every request through in the end")

        version = source.stat(b"file").version
        for _ in range(READS):
            offset = rng.randrange(3 << 20)
            length = rng.randint(1, 1 << 20)
            assert read(version, offset, length) == body[offset : offset + length]
        source.close()
        fired = proxy.counts().fired
    assert set(fired) == set(KINDS), fired
    assert sum(errors.values()) > READS / 10
