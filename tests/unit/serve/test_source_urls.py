"""Readers and fetch number sources alike."""

from __future__ import annotations

from pathlib import Path

from fusecache.contract.mount_spec import SourceSpec
from fusecache.fetch.sources import source_id
from fusecache.serve.source_urls import source_urls
from tests.support.cache_builder import CacheBuilder


def test_the_number_is_the_one_fetch_gives(tmp_path: Path) -> None:
    sources = (SourceSpec("s3://bucket/data"), SourceSpec("file:///ä", "sub/dir"), SourceSpec("file:///ä", "other"))
    cache = CacheBuilder(tmp_path, sources=sources)
    assert source_urls(cache.spec) == {source_id(source): source.url for source in sources}
    cache.close_index()
