"""The S3 source behind a fault proxy before a real SeaweedFS: retried by the caller, every byte and name is right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import Source
from fusecache.source.s3 import open_source
from tests.contract.source_suite import content, list_all
from tests.support.fault_proxy import Fault, FaultProxy, Plan
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, READER, Seaweed

FAULTS = (
    Fault.UNAVAILABLE, Fault.THROTTLED, Fault.RESET, Fault.TRUNCATED, Fault.EMPTY, Fault.WHOLE, Fault.WRONG_RANGE,
    Fault.SHORT_LIST, Fault.REPEAT_TOKEN,
)  # fmt: skip
T = TypeVar("T")


@pytest.fixture(scope="module")
def bucket(seaweed: Seaweed) -> Iterator[S3Bucket]:
    with S3Bucket(seaweed.endpoint_url, "bad-days", ADMIN.access_key, ADMIN.secret_key).create() as opened:
        for number in range(60):
            opened.put(b"dir/%03d" % number, content(30_000 + number, number))
        yield opened


@pytest.fixture(scope="module")
def proxy(seaweed: Seaweed, bucket: S3Bucket) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.endpoint_url) as opened:
        yield opened


@pytest.fixture(params=["rest", "obstore", "s3fs"])
def source(proxy: FaultProxy, request: pytest.FixtureRequest) -> Iterator[Source]:
    proxy.reset()
    options = {
        "endpoint_url": proxy.url,
        "access_key": READER.access_key,
        "secret_key": READER.secret_key,
        "backend": request.param,
    }
    opened = open_source("s3://bad-days", options, {})
    yield opened
    opened.close()
    proxy.set_plan(Plan())


class Retried:
    """What fetch does, without its waits; counts the errors by kind."""

    def __init__(self) -> None:
        self.errors: Counter[ErrorKind] = Counter()

    def __call__(self, call: Callable[[], T]) -> T:
        for _ in range(12):
            try:
                return call()
            except CacheError as error:
                if not error.is_retryable:
                    raise
                self.errors[error.kind] += 1
        raise AssertionError("never succeeded")


def plan(share: float, *faults: Fault) -> Plan:
    return Plan.evenly(share, *faults, access_key=READER.access_key, secret_key=READER.secret_key)


def test_a_fifth_of_all_requests_fails(proxy: FaultProxy, source: Source) -> None:
    retried = Retried()
    proxy.set_plan(plan(0.2, *FAULTS))
    rng = random.Random(1)
    for round_ in range(2):
        names, token = [], None
        while True:
            page = retried(lambda token=token: source.list_page(b"dir", token, 20))  # type: ignore[misc]
            names += [entry.name for entry in page.entries]
            token = page.next_token
            if token is None:
                break
        assert sorted(names) == [b"%03d" % number for number in range(60)]
        for number in range(60):
            path, body = b"dir/%03d" % number, content(30_000 + number, number)
            entry = retried(lambda path=path: source.stat(path))  # type: ignore[misc]
            assert entry.size == len(body)
            offset = 0 if round_ == 0 else rng.randrange(1000, 20_000)
            length = len(body) - offset if round_ == 0 else rng.randrange(1, 9_000)
            found = retried(lambda a=(path, entry.version, offset, length): source.read(*a))  # type: ignore[misc]
            assert found == body[offset : offset + length]
    fired = proxy.counts().fired
    assert sum(fired.values()) > 30, f"too few faults to prove anything: {fired}"
    assert {Fault.TRUNCATED, Fault.WRONG_RANGE, Fault.WHOLE, Fault.RESET, Fault.EMPTY} <= fired.keys()
    assert retried.errors[ErrorKind.UNAVAILABLE] > 20


def test_flipped_bits_of_whole_objects(proxy: FaultProxy, source: Source) -> None:
    retried = Retried()
    entries, _, _ = list_all(source, b"dir")
    proxy.reset()
    proxy.set_plan(plan(0.5, Fault.FLIP))
    for entry in entries:
        found = retried(lambda e=entry: source.read(b"dir/" + e.name, e.version, 0, e.size))  # type: ignore[misc]
        assert found == content(30_000 + int(entry.name), int(entry.name))
    fired = proxy.counts().fired[Fault.FLIP]
    assert fired >= 15
    assert retried.errors[ErrorKind.UNAVAILABLE] == fired
