"""The number of a source: stable, and different for every source of a mount."""

from __future__ import annotations

import pytest

from fusecache.contract.mount_spec import MountSpec, SourceSpec
from fusecache.index.source_ids import endpoint_of, source_id, source_urls
from fusecache.source import oss_options, s3_options


def spec(*sources: SourceSpec) -> MountSpec:
    return MountSpec("d", "/mnt", sources, (), "/state", "/run")


def test_each_place_and_url_has_a_number_of_its_own() -> None:
    sources = (SourceSpec("s3://a"), SourceSpec("s3://a", "sub"), SourceSpec("s3://b"), SourceSpec("s3://bsub"))
    urls = source_urls(spec(*sources))
    assert len(urls) == len(sources)
    assert all(urls[source_id(source)] == source.url for source in sources)


def test_the_number_is_part_of_the_format_on_disk() -> None:
    # A change of the formula empties every cache (fetch/roots.py finds other sources in their places).
    assert source_id(SourceSpec("s3://bucket/data", "place")) == 0x583F053C09527D7B
    assert source_id(SourceSpec("s3://bucket/data", "place", {"endpoint_url": "https://minio:9000"})) == 0x6756EBFA65AFEF57


def test_a_bucket_of_that_name_in_another_store_is_another_source() -> None:
    stores = [{}, {"endpoint_url": "http://a:9000"}, {"endpoint_url": "http://a:9001"}, {"endpoint_url": "http://a:9000/tenant"}]
    assert len({source_id(SourceSpec("s3://bucket", "", options)) for options in stores}) == len(stores)


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_url": "http://minio:9000/"},
        {"endpoint_url": " HTTPS://Minio:9000"},
        {"minio-url": "minio:9000"},
        {"endpoint_url": "http://minio:9000", "url": "minio:9000"},
        {
            "endpoint_url": "http://minio:9000",
            "region": "eu-1",
            "access_key_file": "/key",
            "path_style": "true",
            "ca_file": "/ca",
        },
    ],
)
def test_how_a_store_is_asked_does_not_make_it_another(options: dict[str, str]) -> None:
    same = source_id(SourceSpec("s3://bucket", "", {"endpoint_url": "http://minio:9000"}))
    assert source_id(SourceSpec("s3://bucket", "", options)) == same


def test_every_spelling_of_an_endpoint_counts() -> None:
    tables = (s3_options.ALIASES, oss_options.ALIASES)
    spellings = {"endpoint_url", "fs.oss.bucket.name.endpoint"}.union(*(table["endpoint_url"] for table in tables))
    assert [name for name in spellings if endpoint_of({name: "http://h:1"}) != "h:1"] == []
    others = {spelling for table in tables for name, more in table.items() for spelling in (name, *more)} - spellings
    assert [name for name in others if endpoint_of({name: "http://h:1"})] == []
