"""Attributes as user metadata: what we write is read, and what rclone and s3fs-fuse write."""

from __future__ import annotations

import stat

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.object_metadata import metadata_headers, metadata_of
from fusecache.source.write_protocol import Metadata

PREFIX = "x-amz-meta-"


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(xattrs={}),
        Metadata(0o644, 0, 1000, 1_700_000_000_123_456_789, {}),
        Metadata(0o7777, 65534, 0xFFFFFFFE, 0, {b"a": b"", "schlüssel\n".encode(): bytes(range(200)), b"\xff": b"x"}),
        Metadata(0, 1, 2, -1, {}),
        Metadata(0o100, 1, 2, -1_500_000_000, {}),
        Metadata(0o100, 1, 2, 1_700_000_000 * 10**9, {}),
    ],
)
def test_what_is_written_is_read(metadata: Metadata) -> None:
    headers = metadata_headers(PREFIX, metadata)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert metadata_of(PREFIX, headers) == metadata


def test_the_names_are_those_of_others() -> None:
    headers = metadata_headers(PREFIX, Metadata(0o644, 1, 2, 1_700_000_000_500_000_000, None))
    assert headers == {
        "x-amz-meta-mtime": "1700000000.500000000", "x-amz-meta-mode": "0100644", "x-amz-meta-uid": "1", "x-amz-meta-gid": "2",
    }  # fmt: skip
    assert metadata_headers("x-oss-meta-", Metadata(mode=0o755), stat.S_IFDIR) == {"x-oss-meta-mode": "040755"}


def test_what_others_wrote_is_read() -> None:
    s3fs = {"x-amz-meta-mode": "33188", "x-amz-meta-mtime": "1700000000", "x-amz-meta-uid": "1000", "x-amz-meta-xattr": (
        "%7B%22user.note%22%3A%22aGVsbG8%3D%22%7D"
    )}  # fmt: skip
    assert metadata_of(PREFIX, s3fs) == Metadata(0o644, 1000, None, 1_700_000_000 * 10**9, {b"note": b"hello"})
    rclone = {"x-amz-meta-mtime": "1699999999.123456", "x-amz-meta-mode": "0100664"}
    assert metadata_of(PREFIX, rclone) == Metadata(0o664, None, None, 1_699_999_999_123_456_000, {})


@pytest.mark.parametrize("value", ["", "x", "-", "1e9", "99999999999999", "0x10", "9" * 30, "1.2.3", "٣"])
def test_what_is_no_value_is_nothing(value: str) -> None:
    headers = {f"{PREFIX}{name}": value for name in ("mode", "uid", "gid", "mtime", "xattr")}
    assert metadata_of(PREFIX, headers) == Metadata(None, None, None, None, {})


def test_more_than_an_object_keeps() -> None:
    with pytest.raises(CacheError) as caught:
        metadata_headers(PREFIX, Metadata(xattrs={b"large": bytes(3000)}))
    assert caught.value.kind is ErrorKind.NO_SPACE
