"""The number of a source: stable, and different for every source of a mount."""

from __future__ import annotations

from fusecache.contract.mount_spec import MountSpec, SourceSpec
from fusecache.index.source_ids import source_id, source_urls


def spec(*sources: SourceSpec) -> MountSpec:
    return MountSpec("d", "/mnt", sources, (), "/state", "/run")


def test_each_place_and_url_has_a_number_of_its_own() -> None:
    sources = (SourceSpec("s3://a"), SourceSpec("s3://a", "sub"), SourceSpec("s3://b"), SourceSpec("s3://bsub"))
    urls = source_urls(spec(*sources))
    assert len(urls) == len(sources)
    assert all(urls[source_id(source)] == source.url for source in sources)


def test_the_number_is_part_of_the_format_on_disk() -> None:
    # A change of the formula orphans every cached inode: bump SCHEMA_VERSION with it.
    assert source_id(SourceSpec("s3://bucket/data", "place")) == 0x583F053C09527D7B
