"""S3 over TLS with an authority of one's own: exact bytes, kept connections, and a clear word where it is not trusted."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import ReadState
from fusecache.source.s3 import open_source
from tests.support.fake_object_store import FakeObjectStore, etag_of
from tests.support.started_reads import begin_buffer, finish

pytestmark = pytest.mark.requires("openssl")
BODY = os.urandom(9 << 20)
VERSION = etag_of(BODY).strip('"').encode()
KEYS = {"access_key": "AK", "secret_key": "s"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's certificate for 127.0.0.1 with its key in one PEM file; the authority that signed it is beside it, as "ca"."""
    directory = tmp_path_factory.mktemp("tls")

    def make(name: str, *more: str) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", name]
        subprocess.run([*command, *names, *more], check=True, capture_output=True, cwd=directory)

    make("ca")
    make(
        "leaf", "-CA", "ca", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"
    )
    both = directory / "both.pem"
    both.write_bytes((directory / "leaf.key").read_bytes() + (directory / "leaf").read_bytes())
    return both


@pytest.fixture
def store(certificate: Path) -> Iterator[FakeObjectStore]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeObjectStore(tls=context) as fake:
        fake.objects = {b"file": BODY}
        yield fake


@pytest.mark.parametrize("backend", ["rest", "obstore", "s3fs"])
def test_bytes_over_tls(store: FakeObjectStore, certificate: Path, backend: str) -> None:
    ca_file = str(certificate.with_name("ca"))
    source = open_source("s3://bucket", {"endpoint_url": store.url, "ca_file": ca_file, "backend": backend, **KEYS}, {})
    assert source.stat(b"file").version == VERSION
    for offset, length in ((0, 1 << 20), (5, 100), (1 << 20, 8 << 20)):
        assert source.read(b"file", VERSION, offset, length) == BODY[offset : offset + length]
    assert b"".join(bytes(piece) for piece in source.stream(b"file", VERSION, 3, len(BODY) - 3)) == BODY[3:]
    source.close()


def test_reads_that_are_begun_over_tls(store: FakeObjectStore, certificate: Path) -> None:
    """Also after refusals on the same connection, which are waited for."""
    small = BODY[:300_000]
    store.objects[b"small"] = small
    options = {"endpoint_url": store.url, "ca_file": str(certificate.with_name("ca")), **KEYS}
    source = open_source("s3://bucket", options, {})
    version = source.stat(b"small").version
    for _ in range(20):
        read = source.begin_read(b"small", version, len(small), begin_buffer(len(small)))
        assert read is not None
        assert finish(read) is ReadState.COMPLETE
        assert read.take() == small
        read = source.begin_read(b"small", b"0123456789abcdef0123456789abcdef", len(small), begin_buffer(len(small)))
        assert read is not None
        assert finish(read) is ReadState.ODD
        with pytest.raises(CacheError) as caught:
            read.take()
        assert caught.value.kind is ErrorKind.STALE
        assert source.read(b"small", version, 5, 100) == small[5:105]
    source.close()


def test_an_unknown_authority_is_named_with_its_cure(store: FakeObjectStore) -> None:
    source = open_source("s3://bucket", {"endpoint_url": store.url, **KEYS}, {})
    with pytest.raises(CacheError, match="ca_file") as caught:
        source.check()
    assert caught.value.kind is ErrorKind.INVALID
    source.close()


def test_a_truncated_body_over_tls(store: FakeObjectStore, certificate: Path) -> None:
    options = {"endpoint_url": store.url, "ca_file": str(certificate.with_name("ca")), **KEYS}
    source = open_source("s3://bucket", options, {})
    source.check()

    def cut(request: object, honest: object) -> object:
        honest.body = honest.body[:1000]  # type: ignore[attr-defined]
        return honest

    store.lie = cut  # type: ignore[assignment]
    with pytest.raises(CacheError) as caught:
        source.read(b"file", VERSION, 0, 1 << 20)
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    source.close()
