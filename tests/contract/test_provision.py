"""Directories of volumes, over a directory and over a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.provision import directories
from fusecache.source.protocol import Source
from fusecache.source.registry import open_source
from tests.support.plain_store import PlainStore
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, seaweed: Seaweed) -> Iterator[PlainStore]:
    if request.param == "file":
        (tmp_path / "source").mkdir()
        store = PlainStore(f"file://{tmp_path / 'source'}", {})
    else:
        name = f"provision-{os.urandom(4).hex()}"
        S3Bucket(seaweed.endpoint_url, name, ADMIN.access_key, ADMIN.secret_key).create().close()
        keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        store = PlainStore(f"s3://{name}/below", {"endpoint_url": seaweed.endpoint_url, **keys})
    yield store
    store.close()


@pytest.fixture
def source(store: PlainStore) -> Iterator[Source]:
    source = open_source(store.url, store.options, {})
    yield source
    source.close()


def fails(kind: ErrorKind, source: Source, volume: str, *, remove: bool = False) -> None:
    act = (
        (lambda: directories.remove(source, "name", volume))
        if remove
        else (lambda: directories.make(source, "name", {"volume": volume}))
    )
    with pytest.raises(CacheError) as caught:
        act()
    assert caught.value.kind is kind, caught.value


def test_made_used_and_removed(source: Source, store: PlainStore) -> None:
    for _ in range(2):
        directories.make(source, "name", {"volume": "v1"})
    assert "name/" in store.names()
    store.write("name/file", b"bytes")
    store.make_directory("name/sub")
    store.write("name/sub/file", b"bytes")
    store.make_directory("other")
    store.write("other/file", b"somebody's")
    fails(ErrorKind.EXISTS, source, "v2")
    fails(ErrorKind.NOT_PERMITTED, source, "v2", remove=True)
    assert store.read("name/file") == b"bytes"
    for _ in range(2):
        directories.remove(source, "name", "v1")
    assert "name/" not in store.names()
    assert store.names(".fusecache-volumes") == set()
    assert store.read("other/file") == b"somebody's"


def test_what_lies_there_is_left_alone(source: Source, store: PlainStore) -> None:
    store.make_directory("name")
    store.write("name/file", b"precious")
    fails(ErrorKind.EXISTS, source, "v1")
    fails(ErrorKind.NOT_PERMITTED, source, "v1", remove=True)
    assert store.read("name/file") == b"precious"


def test_a_removal_that_died_in_the_middle_is_finished(source: Source, store: PlainStore) -> None:
    directories.make(source, "name", {"volume": "v1"})
    store.make_directory("name/sub")
    store.write("name/sub/file", b"bytes")
    store.delete("name/sub/file")
    directories.remove(source, "name", "v1")
    assert "name/" not in store.names()
