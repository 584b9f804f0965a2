"""Which source a URL opens, what is said about one that opens none, and what of a URL is a place's identity."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.registry import normalise_url, open_source, scheme_of


def refused(url: str, **options: str) -> str:
    with pytest.raises(CacheError) as caught:
        open_source(url, options, {})
    assert caught.value.kind is ErrorKind.INVALID
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("S3://b", "s3"),
        ("/data", "file"),
        ("zip::file:///x.zip", "zip"),
        ("tar://inner::http://h/x.tar", "tar"),
        ("local:///x", "file"),
    ],
)
def test_scheme(url: str, scheme: str) -> None:
    assert scheme_of(url) == ("local" if url.startswith("local") else scheme)


def test_unknown_schemes_name_the_known_ones() -> None:
    message = refused("ss3://bucket")
    assert "did you mean s3://?" in message
    assert all(scheme in message for scheme in ("oss", "https", "nfs", "gs", "sftp", "zip", "memory"))
    assert "absolute path" in refused("relative/path")
    assert "unknown scheme" in refused("zip::nope://x")


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_a_missing_extra_names_its_command() -> None:
    assert "pip install 'fusecache[gcs]'" in refused("gs://bucket/prefix")


@pytest.mark.parametrize("url", ["file:///tmp", "http://127.0.0.1/", "memory://x"])
def test_unknown_options_are_refused(url: str) -> None:
    assert "unknown option 'no_such_option'" in refused(url, no_such_option="1")


def test_secrets_are_not_taken_as_options() -> None:
    message = refused("ftp://host/x", password="hunter2")
    assert "password_file=PATH" in message
    assert "hunter2" not in message
    assert "cannot read" in refused("ftp://host/x", password_file="/no/such/file")


@pytest.mark.parametrize(
    "spellings",
    [
        ("http://host/a b", "HTTP://Host:80/a%20b/", "http://user:secret@host/a%20b"),
        ("s3://bucket/prefix", "s3a://bucket/prefix/", "minio://bucket/prefix"),
        ("file:///data/x", "/data//x/", "local:///data/x", "file://localhost/data/y/../x"),
        ("nfs://host/export", "nfs://HOST:2049/export/", "nfs://host:/export"),
        ("gs://b/p", "gcs://b/p/"),
    ],
)
def test_spellings_of_one_place(spellings: tuple[str, ...]) -> None:
    assert {normalise_url(url) for url in spellings} == {normalise_url(spellings[0])}
    assert "secret" not in normalise_url(spellings[-1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/a//b", "s3://bucket/a/b"),
        ("s3://bucket/a%20b", "s3://bucket/a b"),
        ("http://host/a", "https://host/a"),
        ("http://host/a", "http://host:8080/a"),
        ("file:///a%3Fb", "file:///a"),
        ("s3://bucket/A", "s3://bucket/a"),
    ],
)
def test_different_places(one: str, other: str) -> None:
    assert normalise_url(one) != normalise_url(other)


@pytest.mark.parametrize("url", ["file:///tmp", "http://127.0.0.1/", "nfs://host/export"])
def test_opening_imports_no_heavy_library(url: str) -> None:
    program = (
        "import sys\n"
        "from fusecache.contract.errors import CacheError\n"
        "from fusecache.source.registry import open_source\n"
        "try:\n"
        f"    open_source({url!r}, {{}}, {{}})\n"
        "except CacheError as error:\n"  # no libnfs here
        "    assert 'libnfs' in str(error), error\n"
        "print(*sorted({'fsspec', 'aiohttp', 'obstore', 's3fs', 'urllib3', 'botocore', 'asyncio'} & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
