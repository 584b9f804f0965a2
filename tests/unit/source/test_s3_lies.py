"""Answers that no honest store gives are refused by every read client, with the kind that leads to the right reaction."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.crc import crc_named
from fusecache.source.protocol import BeginRead, ReadState, Source, StartedRead
from fusecache.source.s3 import open_source
from tests.support.fake_object_store import Answer, FakeObjectStore, Request, error_answer, etag_of, xml_answer
from tests.support.started_reads import begin_buffer, finish

BODY = bytes(range(256)) * 400
VERSION = etag_of(BODY).strip('"').encode()
Lie = Callable[[Request, Answer], Answer]


@pytest.fixture
def store() -> Iterator[FakeObjectStore]:
    with FakeObjectStore() as fake:
        fake.objects = {b"dir/file": BODY, b"dir/other": b"x", b"top": b"y"}
        yield fake


def open_over(store: FakeObjectStore, **options: str) -> Source:
    keys = {"access_key": "AKIAME", "secret_key": "do-not-show"}
    return open_source("s3://bucket", {"endpoint_url": store.url, "read_timeout": "10s", **keys, **options}, {})


CLIENTS = ["rest", "obstore", "s3fs"]


@pytest.fixture(params=CLIENTS)
def source(store: FakeObjectStore, request: pytest.FixtureRequest) -> Iterator[Source]:
    opened = open_over(store, backend=request.param)
    yield opened
    opened.close()


@pytest.fixture
def rest(store: FakeObjectStore) -> Iterator[Source]:
    opened = open_over(store)
    yield opened
    opened.close()


def raised(call: Callable[[], object]) -> CacheError:
    with pytest.raises(CacheError) as caught:
        call()
    assert "do-not-show" not in str(caught.value)
    return caught.value


def only_objects(lie: Lie) -> Lie:
    return lambda request, honest: lie(request, honest) if request.key and request.method == "GET" else honest


def with_headers(honest: Answer, **headers: str) -> Answer:
    return dataclasses.replace(honest, headers={**honest.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})


def without(honest: Answer, name: str) -> Answer:
    return dataclasses.replace(honest, headers={k: v for k, v in honest.headers.items() if k != name})


def flipped(honest: Answer) -> Answer:
    body = bytearray(honest.body)
    body[len(body) // 2] ^= 4
    return dataclasses.replace(honest, body=bytes(body))


WRONG_PARTS: dict[str, Lie] = {
    "200 for a part": lambda _, honest: Answer(200, {"etag": etag_of(BODY), "content-length": str(len(BODY))}, BODY),
    "another range, labelled": lambda _, honest: with_headers(honest, content_range=f"bytes 5-104/{len(BODY)}"),
    "a shorter range, labelled": lambda _, honest: Answer(
        206, {**honest.headers, "content-range": f"bytes 10-19/{len(BODY)}", "content-length": "10"}, BODY[10:20]
    ),
    "no Content-Range": lambda _, honest: without(honest, "content-range"),
    "malformed Content-Range": lambda _, honest: with_headers(honest, content_range="bytes ten-twenty/many"),
    "truncated body": lambda _, honest: dataclasses.replace(honest, body=honest.body[:50]),
    "short, honest length": lambda _, honest: Answer(206, {**honest.headers, "content-length": "50"}, honest.body[:50]),
    "empty body": lambda _, honest: Answer(206, {**honest.headers, "content-length": "0"}, b""),
    "no ETag": lambda _, honest: without(honest, "etag"),
    "weak ETag": lambda _, honest: with_headers(honest, etag="W/" + etag_of(BODY)),
    "500": lambda *_: error_answer(500, "InternalError", "oops"),
    "503": lambda *_: error_answer(503, "SlowDown", "slow down"),
}


@pytest.mark.parametrize("name", WRONG_PARTS)
def test_a_wrong_part_is_worth_a_retry(store: FakeObjectStore, source: Source, name: str) -> None:
    assert source.read(b"dir/file", VERSION, 10, 100) == BODY[10:110]
    store.lie = only_objects(WRONG_PARTS[name])
    for call in (
        partial(source.read, b"dir/file", VERSION, 10, 100),
        lambda: list(source.stream(b"dir/file", VERSION, 10, 100)),
    ):
        assert raised(call).kind is ErrorKind.UNAVAILABLE
    store.lie = None
    assert source.read(b"dir/file", VERSION, 10, 100) == BODY[10:110]


def test_another_version_is_stale_even_where_conditions_are_ignored(store: FakeObjectStore, source: Source) -> None:
    store.lie = only_objects(lambda _, honest: with_headers(honest, etag='"0123456789abcdef0123456789abcdef"'))
    assert raised(lambda: source.read(b"dir/file", VERSION, 0, 100)).kind is ErrorKind.STALE


def test_a_flipped_bit_is_noticed_by_the_md5_in_the_etag(store: FakeObjectStore, source: Source) -> None:
    store.lie = only_objects(lambda _, honest: flipped(honest))
    error = raised(lambda: source.read(b"dir/file", VERSION, 0, len(BODY)))
    assert error.kind is ErrorKind.UNAVAILABLE
    assert "verify_etag" in str(error)
    assert raised(lambda: list(source.stream(b"dir/file", VERSION, 0, len(BODY)))).kind is ErrorKind.UNAVAILABLE


def test_an_etag_of_keyed_encryption_is_no_md5(store: FakeObjectStore, source: Source) -> None:
    other = store.etags[b"dir/file"] = '"0123456789abcdef0123456789abcdef"'
    store.object_headers = {"x-amz-server-side-encryption": "aws:kms"}
    assert source.read(b"dir/file", other.strip('"').encode(), 0, len(BODY)) == BODY


def test_verify_etag_can_be_turned_off(store: FakeObjectStore) -> None:
    store.lie = only_objects(lambda _, honest: flipped(honest))
    for backend in ("rest", "obstore", "s3fs"):
        source = open_over(store, verify_etag="false", backend=backend)
        assert source.read(b"dir/file", VERSION, 0, len(BODY)) != BODY
        source.close()


@pytest.mark.parametrize("name", ["crc64nvme", "crc32c", "crc32", "sha256", "sha1"])
@pytest.mark.parametrize("damage", [False, True])
def test_checksum_headers_win_over_the_etag(store: FakeObjectStore, rest: Source, name: str, damage: bool) -> None:
    crc = crc_named(name)
    digest = crc(BODY) if crc is not None else hashlib.new(name, BODY).digest()
    multipart = store.etags[b"dir/file"] = f'"{"a" * 32}-2"'
    store.object_headers = {f"x-amz-checksum-{name}": b64encode(digest).decode(), "x-amz-checksum-type": "FULL_OBJECT"}
    if damage:
        store.lie = only_objects(lambda _, honest: flipped(honest))
    if damage:
        assert name.upper() in str(raised(lambda: rest.read(b"dir/file", multipart.strip('"').encode(), 0, len(BODY))))
    else:
        assert rest.read(b"dir/file", multipart.strip('"').encode(), 0, len(BODY)) == BODY
    assert store.requests[-1].headers["x-amz-checksum-mode"] == "ENABLED"
    assert "x-amz-checksum-mode" in store.requests[-1].headers["authorization"]


def page(inner: str) -> Answer:
    return xml_answer(f"<ListBucketResult>{inner}</ListBucketResult>")


CONTENTS = '<Contents><Key>{}</Key><Size>1</Size><ETag>"e"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>'
COMPLETE = "<IsTruncated>false</IsTruncated>"
WRONG_LISTINGS: dict[str, Answer] = {
    "cut short": Answer(200, {"content-length": "30"}, b"<ListBucketResult><IsTruncated"),
    "not XML": Answer(200, {"content-length": "12"}, b"Hello, world"),
    "another document": xml_answer("<html><body>welcome</body></html>"),
    "empty body": Answer(200, {"content-length": "0"}, b""),
    "no word about its end": page(CONTENTS.format("a")),
    "incomplete without a token": page("<IsTruncated>true</IsTruncated>"),
    "fewer names than announced": page(f"<KeyCount>3</KeyCount>{COMPLETE}{CONTENTS.format('a')}"),
    "one name twice": page(COMPLETE + CONTENTS.format("a") * 2),
    "one prefix twice": page(COMPLETE + "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>" * 2),
    "keys of another directory": page(COMPLETE + CONTENTS.format("a/b")),
    "an impossible size": page(COMPLETE + CONTENTS.format("a").replace("<Size>1", "<Size>-1")),
    "a prefix without slash": page(COMPLETE + "<CommonPrefixes><Prefix>a</Prefix></CommonPrefixes>"),
    "an entity": xml_answer(f'<!DOCTYPE x [<!ENTITY a "bomb">]><ListBucketResult>{COMPLETE}&a;</ListBucketResult>'),
    "a document type": xml_answer(f"<!DOCTYPE ListBucketResult><ListBucketResult>{COMPLETE}</ListBucketResult>"),
    "deep nesting": page("<a>" * 5000 + "</a>" * 5000 + COMPLETE),
    "endless": page(COMPLETE + "<x>" + "y" * (17 << 20) + "</x>"),
    "empty keys": page(COMPLETE + CONTENTS.format("")),
}


@pytest.mark.parametrize("name", WRONG_LISTINGS)
def test_a_listing_that_cannot_be_trusted_is_worth_a_retry(store: FakeObjectStore, rest: Source, name: str) -> None:
    store.lie = lambda *_: WRONG_LISTINGS[name]
    error = raised(lambda: rest.list_page(b""))
    assert error.kind is ErrorKind.UNAVAILABLE
    assert "s3://bucket" in str(error)


def test_a_listing_that_repeats_itself_ends(store: FakeObjectStore, rest: Source) -> None:
    store.objects = {b"%02d" % number: b"x" for number in range(10)}
    first = rest.list_page(b"", None, 3)
    assert first.next_token is not None

    def same_token(request: Request, honest: Answer) -> Answer:
        token = request.query["continuation-token"].decode()
        return page(
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>{CONTENTS.format('07')}"
        )

    def same_names(request: Request, honest: Answer) -> Answer:
        return page(f"<IsTruncated>true</IsTruncated><NextContinuationToken>new</NextContinuationToken>{CONTENTS.format('01')}")

    for lie in (same_token, same_names):
        store.lie = lie
        assert raised(lambda: rest.list_page(b"", first.next_token, 3)).kind is ErrorKind.UNAVAILABLE
    store.lie = None
    assert [entry.name for entry in rest.list_page(b"", first.next_token, 3).entries] == [b"03", b"04", b"05"]


def test_a_directory_shadows_the_file_of_its_name_on_an_earlier_page(store: FakeObjectStore, rest: Source) -> None:
    store.objects = {b"a": b"file", b"a-b": b"1", b"a.c": b"2", b"a/inside": b"3", b"b": b"4", b"b-": b"5", b"c": b"6"}
    for limit in (1, 2, 3, 4, 1000):
        names, hidden, token = [], [], None
        while True:
            found = rest.list_page(b"", token, limit)
            names += [(entry.name, entry.kind.name) for entry in found.entries]
            hidden += [one.name for one in found.hidden]
            token = found.next_token
            if token is None:
                break
        expected = {(b"a", "DIRECTORY"), (b"a-b", "FILE"), (b"a.c", "FILE"), (b"b", "FILE"), (b"b-", "FILE"), (b"c", "FILE")}
        assert len(names) == len(expected)
        assert set(names) == expected
        assert hidden == [b"a"]
    assert rest.stat(b"a").kind.name == "DIRECTORY"
    assert rest.stat(b"b").kind.name == "FILE"


REFUSALS: dict[str, tuple[Answer, ErrorKind, str]] = {
    "unknown key": (error_answer(403, "InvalidAccessKeyId", ""), ErrorKind.DENIED, "does not know the access key AKIAME"),
    "wrong secret": (error_answer(403, "SignatureDoesNotMatch", ""), ErrorKind.DENIED, "AWS_SECRET_ACCESS_KEY"),
    "expired": (error_answer(400, "ExpiredToken", ""), ErrorKind.DENIED, "session token"),
    "forbidden": (error_answer(403, "AccessDenied", ""), ErrorKind.DENIED, "s3:ListBucket"),
    "clock": (
        error_answer(403, "RequestTimeTooSkewed", "", date="Wed, 04 Mar 2020 05:06:07 GMT"), ErrorKind.DENIED, "set the clock",
    ),
    "no S3 at all": (Answer(404, {"content-length": "0"}), ErrorKind.NOT_FOUND, "is endpoint_url that of an S3 store"),
    "no bucket": (error_answer(404, "NoSuchBucket", ""), ErrorKind.NOT_FOUND, "no such bucket"),
    "bad bucket": (error_answer(400, "InvalidBucketName", ""), ErrorKind.INVALID, "bucket name"),
    "redirect": (Answer(302, {"location": "http://169.254.169.254/", "content-length": "0"}), ErrorKind.INVALID, "elsewhere"),
    "throttled": (error_answer(429, "TooManyRequests", "", **{"retry-after": "7"}), ErrorKind.UNAVAILABLE, "overloaded"),
    "slow down": (error_answer(503, "SlowDown", "", **{"retry-after": "7"}), ErrorKind.UNAVAILABLE, "overloaded"),
    "broken": (error_answer(500, "InternalError", ""), ErrorKind.UNAVAILABLE, "failing"),
    "not implemented": (error_answer(501, "NotImplemented", ""), ErrorKind.UNSUPPORTED, "another store"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_cause_and_cure(store: FakeObjectStore, rest: Source, name: str) -> None:
    answer, kind, words = REFUSALS[name]
    store.lie = lambda *_: answer
    error = raised(rest.check)
    assert (error.kind, error.retry_after_seconds) == (kind, 7.0 if "retry-after" in answer.headers else None)
    assert error.is_throttled == (name in ("throttled", "slow down"))
    assert words in str(error)
    assert len(store.requests) == 1  # no retries, no redirects followed


@pytest.mark.parametrize("name", ["unknown key", "wrong secret", "forbidden", "throttled"])
def test_every_read_client_tells_the_same_kinds(store: FakeObjectStore, source: Source, name: str) -> None:
    answer, kind, _ = REFUSALS[name]
    store.lie = lambda *_: answer
    assert raised(lambda: source.read(b"dir/file", VERSION, 0, 10)).kind is kind
    assert len(store.requests) == 1


@pytest.mark.parametrize("backend", CLIENTS)
def test_a_silent_store_is_a_timeout(store: FakeObjectStore, backend: str) -> None:
    may_answer = threading.Event()

    def wait(request: Request, honest: Answer) -> Answer:
        may_answer.wait(60.0)
        return honest

    source = open_over(store, backend=backend, read_timeout="1s")
    store.lie = wait
    started = time.monotonic()
    assert raised(lambda: source.read(b"dir/file", VERSION, 0, 10)).kind is ErrorKind.TIMEOUT
    assert time.monotonic() - started < 15.0  # 1 s is asked for; two busy cores take their time
    may_answer.set()
    source.close()


def test_the_region_that_the_store_names_is_used(store: FakeObjectStore, rest: Source) -> None:
    def lie(request: Request, honest: Answer) -> Answer:
        if "/eu-west-9/" in request.headers["authorization"]:
            return honest
        return error_answer(400, "AuthorizationHeaderMalformed", "wrong", **{"x-amz-bucket-region": "eu-west-9"})

    store.lie = lie
    rest.check()
    rest.check()
    assert len(store.requests) == 3
    fixed = open_over(store, region="us-east-1")
    error = raised(fixed.check)
    assert error.kind is ErrorKind.INVALID
    assert "eu-west-9" in str(error)
    fixed.close()


def test_listings_without_etags_are_completed_by_head(store: FakeObjectStore, rest: Source) -> None:
    def lie(request: Request, honest: Answer) -> Answer:
        return honest if request.key else page(COMPLETE + CONTENTS.format("top").replace('"e"', ""))

    store.lie = lie
    (entry,) = rest.list_page(b"").entries
    assert entry.needs_stat
    found = rest.stat(b"top")
    assert (found.size, found.needs_stat, found.version) == (1, False, etag_of(b"y").strip('"').encode())


def test_long_etags_are_hashed_and_still_checked(store: FakeObjectStore, rest: Source) -> None:
    long = '"' + "e" * 200 + '"'
    store.lie = lambda request, honest: (
        with_headers(honest, etag=long) if request.key else page(COMPLETE + CONTENTS.format("top").replace('"e"', long))
    )
    version = rest.stat(b"top").version
    assert len(version) <= 96
    assert rest.read(b"top", version, 0, 1) == b"y"
    store.lie = only_objects(lambda _, honest: with_headers(honest, etag='"short"'))
    assert raised(lambda: rest.read(b"top", version, 0, 1)).kind is ErrorKind.STALE


WRONG_WHOLES: dict[str, Lie] = {
    name: WRONG_PARTS[name] for name in ("truncated body", "short, honest length", "no ETag", "weak ETag", "500", "503")
} | {
    "a flipped bit": lambda _, honest: flipped(honest),
    "a part of what it is": lambda _, honest: Answer(206, {**honest.headers, "content-range": "bytes ten-twenty/many"}, BODY),
}


def begin(source: Source, version: bytes = VERSION) -> StartedRead:
    """Begin to read the file over a connection that a read before left open."""
    assert isinstance(source, BeginRead)
    source.read(b"top", etag_of(b"y").strip('"').encode(), 0, 1)
    begun = source.begin_read(b"dir/file", version, len(BODY), begin_buffer(len(BODY)))
    assert begun is not None
    return begun


@pytest.mark.parametrize("name", WRONG_WHOLES)
def test_a_wrong_answer_to_a_begun_read_is_worth_a_retry(store: FakeObjectStore, rest: Source, name: str) -> None:
    read = begin(rest)
    assert finish(read) is ReadState.COMPLETE
    assert read.take() == BODY
    store.lie = lambda request, honest: WRONG_WHOLES[name](request, honest) if request.key == b"dir/file" else honest
    asked = len(store.requests)
    read = begin(rest)
    assert finish(read) is (ReadState.COMPLETE if name == "a flipped bit" else ReadState.ODD)
    assert raised(read.take).kind is ErrorKind.UNAVAILABLE
    assert len(store.requests) == asked + 2, "a refusal is not asked for twice"
    store.lie = None
    assert finish(begin(rest)) is ReadState.COMPLETE


def test_a_begun_read_asks_for_the_whole_object(store: FakeObjectStore, rest: Source) -> None:
    """Stores send the checksum of an object with the whole of it only."""
    assert finish(begin(rest)) is ReadState.COMPLETE
    assert "range" not in store.requests[-1].headers


def test_a_begun_read_of_what_has_another_length_now_is_stale_even_where_conditions_are_ignored(
    store: FakeObjectStore, rest: Source
) -> None:
    other = Answer(200, {"etag": etag_of(BODY * 2), "content-length": str(2 * len(BODY))}, BODY * 2)
    store.lie = lambda request, honest: other if request.key == b"dir/file" else honest
    read = begin(rest)
    assert finish(read) is ReadState.ODD
    assert raised(read.take).kind is ErrorKind.STALE


def test_a_begun_read_of_another_version_is_stale(store: FakeObjectStore, rest: Source) -> None:
    read = begin(rest, b"0123456789abcdef0123456789abcdef")
    assert finish(read) is ReadState.ODD
    assert raised(read.take).kind is ErrorKind.STALE


def test_a_begun_read_whose_connection_had_ended_is_asked_for_again(store: FakeObjectStore, rest: Source) -> None:
    def hang_up_once(request: Request, honest: Answer) -> Answer:
        if request.key == b"dir/file":
            store.lie = None
            raise ConnectionAbortedError
        return honest

    store.lie = hang_up_once
    read = begin(rest)
    assert finish(read) is ReadState.ODD
    assert read.take() == BODY


def test_a_store_that_does_not_say_how_long_its_answers_are_is_read_by_waiting(store: FakeObjectStore, rest: Source) -> None:
    def chunked(request: Request, honest: Answer) -> Answer:
        if request.key != b"dir/file":
            return honest
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(honest.body), honest.body)
        return Answer(honest.status, {**without(honest, "content-length").headers, "transfer-encoding": "chunked"}, body)

    store.lie = chunked
    read = begin(rest)
    assert finish(read) is ReadState.ODD
    assert read.take() == BODY
    assert isinstance(rest, BeginRead)
    assert not rest.begins_reads, "it costs two requests each time"
