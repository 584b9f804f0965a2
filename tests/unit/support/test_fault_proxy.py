"""Each fault of the proxy is seen by a plain client in front of a real, signature-checking store, and is counted."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from fusecache.source.credentials import Credential
from fusecache.source.sigv4 import UNSIGNED_PAYLOAD, Signer, encode_query
from tests.support.fault_proxy import Fault, FaultProxy, Gone, Logged, Plan, repeated_bytes
from tests.support.seaweed import ADMIN, Seaweed

BODY = bytes(range(256)) * 400
KEYS = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def request(port: int, method: str, target: str, byte_range: str = "", body: bytes = b"", timeout: float = 5) -> Reply:
    """Send one signed request; errors of the connection pass."""
    path, _, query = target.partition("?")
    headers = {"host": f"127.0.0.1:{port}"} | ({"range": byte_range} if byte_range else {})
    signer = Signer("us-east-1")
    credential = Credential(ADMIN.access_key, ADMIN.secret_key)
    headers = signer.sign(credential, method, path, query, headers, payload_sha256=UNSIGNED_PAYLOAD)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, target, body or None, headers)
        reply = connection.getresponse()
        return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def store() -> Iterator[Seaweed]:
    with Seaweed() as weed:
        assert request(weed.s3_port, "PUT", "/bkt").status == 200
        assert request(weed.s3_port, "PUT", "/bkt/big", body=BODY).status == 200
        for number in range(7):
            request(weed.s3_port, "PUT", f"/bkt/d/{number}", body=b"x")
        yield weed


@pytest.fixture(scope="module")
def shared(store: Seaweed) -> Iterator[FaultProxy]:
    with FaultProxy(store.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared: FaultProxy) -> Iterator[FaultProxy]:
    shared.reset()
    yield shared
    shared.set_plan(Plan())


def only(kind: Fault, **settings: object) -> Plan:
    return Plan.evenly(1.0, kind, most_in_a_row=0, **{**KEYS, **settings})


def test_without_a_plan_signed_requests_pass_and_are_counted(proxy: FaultProxy) -> None:
    assert request(proxy.port, "GET", "/bkt/big").body == BODY
    assert request(proxy.port, "GET", "/bkt/big", "bytes=10-19").body == BODY[10:20]
    assert request(proxy.port, "HEAD", "/bkt/big").headers["content-length"] == str(len(BODY))
    assert request(proxy.port, "PUT", "/bkt/new", body=b"new").status == 200
    counts = proxy.counts()
    assert counts.fired == {}
    assert counts.requests["GET /bkt/big"] == 2
    assert counts.bytes["GET /bkt/big"] == len(BODY) + 10
    assert [(one.method, one.range, one.status) for one in proxy.log()][:2] == [("GET", "", 200), ("GET", "bytes=10-19", 206)]
    assert proxy.bytes_fetched_twice("/bkt/big") == 10


@pytest.mark.parametrize(("kind", "status"), [(Fault.UNAVAILABLE, 503), (Fault.THROTTLED, 429)])
def test_refusals_come_with_retry_after_every_second_time(proxy: FaultProxy, kind: Fault, status: int) -> None:
    proxy.set_plan(only(kind))
    replies = [request(proxy.port, "GET", "/bkt/big") for _ in range(4)]
    assert {reply.status for reply in replies} == {status}
    assert sum("retry-after" in reply.headers for reply in replies) == 2
    assert proxy.counts().fired == {kind: 4}


@pytest.mark.parametrize("kind", [Fault.SLOW, Fault.SLOW_BODY])
def test_slow_answers_arrive_whole(proxy: FaultProxy, kind: Fault) -> None:
    proxy.set_plan(only(kind, slow_seconds=0.3))
    started = time.monotonic()
    assert request(proxy.port, "GET", "/bkt/big").body == BODY
    assert time.monotonic() - started > 0.3


def test_reset_in_the_body(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.RESET))
    with pytest.raises(ConnectionResetError):
        request(proxy.port, "GET", "/bkt/big")


def test_truncated_body_keeps_its_length_header(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.TRUNCATED))
    with pytest.raises(http.client.IncompleteRead) as caught:
        request(proxy.port, "GET", "/bkt/big")
    assert caught.value.partial == BODY[: len(BODY) // 2]


def test_empty_body(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.EMPTY))
    reply = request(proxy.port, "GET", "/bkt/big", "bytes=0-99")
    assert (reply.status, reply.body) == (206, b"")


def test_the_whole_object_instead_of_a_range(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.WHOLE))
    reply = request(proxy.port, "GET", "/bkt/big", "bytes=10-19")
    assert (reply.status, reply.body) == (200, BODY)


def test_wrong_content_range_is_labelled_with_what_is_in_it(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.WRONG_RANGE))
    reply = request(proxy.port, "GET", "/bkt/big", "bytes=10-19")
    assert reply.headers["content-range"] == f"bytes 9-18/{len(BODY)}"
    assert reply.body == BODY[9:19]


def test_wrong_content_range_without_keys_is_mislabelled(proxy: FaultProxy) -> None:
    proxy.set_plan(Plan.evenly(1.0, Fault.WRONG_RANGE))
    reply = request(proxy.port, "GET", "/bkt/big", "bytes=10-19")
    assert reply.headers["content-range"] == f"bytes 11-20/{len(BODY)}"


def list_url(token: str = "") -> str:
    pairs = [("list-type", b"2"), ("prefix", b"d/"), ("max-keys", b"5")]
    return "/bkt?" + encode_query(pairs + ([("continuation-token", token.encode())] if token else []))


def next_token(reply: Reply) -> str:
    match = re.search(rb"<NextContinuationToken>(.*?)</NextContinuationToken>", reply.body)
    return match[1].decode() if match else ""


def test_short_pages_are_complete_if_followed(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.SHORT_LIST))
    names: list[bytes] = []
    token = ""
    for _ in range(9):
        reply = request(proxy.port, "GET", list_url(token))
        page = re.findall(rb"<Key>(.*?)</Key>", reply.body)
        assert len(page) <= 3
        names += page
        token = next_token(reply)
        if not token:
            break
    assert names == [b"d/%d" % number for number in range(7)]


def test_a_listing_repeats_its_token(proxy: FaultProxy) -> None:
    token = next_token(request(proxy.port, "GET", list_url()))
    proxy.set_plan(only(Fault.REPEAT_TOKEN))
    reply = request(proxy.port, "GET", list_url(token))
    assert next_token(reply) == token
    assert b"<IsTruncated>true<" in reply.body


def test_one_bit_is_flipped(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.FLIP))
    body = request(proxy.port, "GET", "/bkt/big").body
    assert sum((a ^ b).bit_count() for a, b in zip(body, BODY, strict=True)) == 1


def test_stall_ends_with_the_clients_patience(proxy: FaultProxy) -> None:
    proxy.set_plan(only(Fault.STALL))
    with pytest.raises(TimeoutError):
        request(proxy.port, "GET", "/bkt/big", timeout=0.2)


def test_store_gone_and_back(proxy: FaultProxy) -> None:
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    with pytest.raises(ConnectionRefusedError):
        request(proxy.port, "GET", "/bkt/big")
    proxy.set_plan(Plan(gone=Gone.STALL))
    with pytest.raises(TimeoutError):
        request(proxy.port, "GET", "/bkt/big", timeout=0.2)
    proxy.set_plan(Plan())
    assert request(proxy.port, "GET", "/bkt/big").body == BODY


def test_going_away_ends_open_connections(proxy: FaultProxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    connection.connect()
    request(proxy.port, "GET", "/bkt/big")
    proxy.set_plan(Plan(gone=Gone.REFUSE))
    with contextlib.suppress(ConnectionResetError):
        assert connection.sock.recv(1) == b""
    connection.close()


def test_the_share_is_kept_and_the_seed_decides(proxy: FaultProxy) -> None:
    plan = Plan.evenly(0.2, Fault.UNAVAILABLE, Fault.EMPTY, seed=7, most_in_a_row=0, **KEYS)

    def run() -> list[str | None]:
        proxy.reset()
        proxy.set_plan(plan)
        for start in range(100):
            request(proxy.port, "GET", "/bkt/big", f"bytes={start}-{start}")
        deadline = time.monotonic() + 5
        while len(proxy.log()) < 100 and time.monotonic() < deadline:
            time.sleep(0.01)  # a request is logged after its reply was sent
        by_start = {one.range: one.fault for one in proxy.log()}
        return [by_start[f"bytes={start}-{start}"] for start in range(100)]

    first = run()
    assert first == run()
    assert 10 <= sum(fault is not None for fault in first) <= 32
    assert {"503", "empty"} == set(first) - {None}


def test_most_in_a_row_lets_a_patient_client_through(proxy: FaultProxy) -> None:
    proxy.set_plan(Plan.evenly(1.0, Fault.UNAVAILABLE, most_in_a_row=2))
    assert [request(proxy.port, "GET", "/bkt/big").status for _ in range(6)] == [503, 503, 200, 503, 503, 200]


def test_bandwidth_is_shaped(proxy: FaultProxy) -> None:
    proxy.set_plan(Plan(bandwidth_bytes_per_second=len(BODY) * 4))
    started = time.monotonic()
    assert request(proxy.port, "GET", "/bkt/big").body == BODY
    assert request(proxy.port, "GET", "/bkt/big").body == BODY
    assert 0.4 < time.monotonic() - started < 3


def test_bandwidth_changes_for_answers_under_way(proxy: FaultProxy) -> None:
    proxy.set_plan(Plan(bandwidth_bytes_per_second=len(BODY) // 8))  # its two halves take four seconds each
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        answer = pool.submit(request, proxy.port, "GET", "/bkt/big")
        time.sleep(0.3)
        proxy.set_plan(Plan())
        assert answer.result().body == BODY
    assert 3 < time.monotonic() - started < 7


def test_plan_survives_its_journey() -> None:
    plan = Plan.evenly(0.5, gone=Gone.STALL, match="GET", seed=3)
    assert Plan.from_json(plan.to_json()) == plan


def test_repeated_bytes_counts_overlaps_only() -> None:
    def sent(byte_range: str, size: int, status: int = 206) -> Logged:
        return Logged(0, "GET", "/bkt/k", "", byte_range, status, None, size)

    assert repeated_bytes([sent("bytes=0-9", 10), sent("bytes=10-19", 10)]) == 0
    assert repeated_bytes([sent("bytes=0-9", 10), sent("bytes=5-14", 10)]) == 5
    assert repeated_bytes([sent("", 20, 200), sent("bytes=5-14", 10), sent("bytes=0-9", 0, 503)]) == 10
