"""SOURCE[=SUBDIR]: which part is the URL, and what is refused."""

from __future__ import annotations

import pytest

from fusecache.cli.source_arguments import check_places, check_subdir, split_source
from fusecache.contract.errors import CacheError, ErrorKind


@pytest.mark.parametrize(
    ("text", "url", "subdir"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix", ""),
        ("s3://bucket=images", "s3://bucket", "images"),
        ("s3://bucket/a=data/train", "s3://bucket/a", "data/train"),
        ("s3://bucket/day=2024-01-01=", "s3://bucket/day=2024-01-01", ""),
        ("s3://bucket/day=2024-01-01=days", "s3://bucket/day=2024-01-01", "days"),
        ("s3://bucket/day=2024-01-01/", "s3://bucket/day=2024-01-01/", ""),
        ("http://host/list?dir=a", "http://host/list?dir=a", ""),
        ("http://host/list?dir=a=", "http://host/list?dir=a", ""),
        ("http://host/x=http://other/y", "http://host/x=http://other/y", ""),
        ("/data=local", "/data", "local"),
        ("nfs://nas:2049/export=nas", "nfs://nas:2049/export", "nas"),
        ("zip::file:///a.zip", "zip::file:///a.zip", ""),
    ],
)
def test_url_and_subdir(text: str, url: str, subdir: str) -> None:
    assert split_source(text) == (url, subdir)


@pytest.mark.parametrize("subdir", ["..", "a/../b", "a//b", ".", "a/.", "a\0b", "n" * 256])
def test_a_subdir_cannot_leave_the_tree(subdir: str) -> None:
    with pytest.raises(CacheError) as caught:
        check_subdir(subdir)
    assert caught.value.kind is ErrorKind.INVALID


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(CacheError) as caught:
        split_source("s3://AKIA:topsecret@bucket/x")
    assert "topsecret" not in str(caught.value)
    assert "secret_key_file" in str(caught.value)


def test_two_sources_at_the_root_are_refused() -> None:
    with pytest.raises(CacheError, match="both at the root"):
        check_places([("s3://a", ""), ("s3://b", "")])
    check_places([("s3://a", ""), ("s3://b", "b")])


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(CacheError, match="empty"):
        split_source("=x")
