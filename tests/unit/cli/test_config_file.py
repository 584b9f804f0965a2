"""The YAML configuration: the same keys as the command line, checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.base.units import GIB
from fusecache.cli.config_file import MAX_BYTES, load_config, parse_config
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Medium

_TEXT = b"""
sources:
  - s3://bucket/prefix
  - url: http://host/list?dir=a
    subdir: web
    options: {timeout: 30, verify_tls: false}
mountpoint: /mnt/data
tiers:
  - /dev/shm:4Gi
  - {path: /mnt/disk, quota: 200Gi, high: 0.9, low: 0.8, medium: hdd}
options: {endpoint_url: "http://x"}
timeout: 90
ttl: 30s
file_mode: 0640
dir_mode: "0750"
prefetch: no
"""


def test_everything_is_read() -> None:
    config = parse_config(_TEXT, "f")
    assert config.places == (("s3://bucket/prefix", ""), ("http://host/list?dir=a", "web"))
    assert config.mountpoint == "/mnt/data"
    assert config.options == (("endpoint_url", "http://x"), ("web:timeout", "30"), ("web:verify_tls", "false"))
    assert config.timeout == "90"
    assert dict(config.settings) == {"ttl": "30s", "file_mode": "640", "dir_mode": "0750", "prefetch": "false"}
    assert config.tiers is not None
    assert [tier.base for tier in config.tiers] == ["/dev/shm", "/mnt/disk"]
    assert (config.tiers[1].quota_bytes, config.tiers[1].medium) == (200 * GIB, Medium.HDD)


def test_an_empty_file_says_nothing() -> None:
    config = parse_config(b"", "f")
    assert config.tiers is None
    assert config.places == ()
    assert parse_config(b"tiers: []", "f").tiers == ()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"ttll: 5", "did you mean 'ttl'"),
        (b"[1, 2]", "must be a mapping"),
        (b"sources: s3://b", "must be a list"),
        (b"sources: [{subdir: x}]", "no url"),
        (b"sources: [{url: 's3://b', subdir: ../x}]", "component '..'"),
        (b"tiers: [{path: /x}]", "needs path and quota"),
        (b"tiers: [{path: /x, quota: 1Gi, hihg: 1}]", "unknown key 'hihg'"),
        (b"options: {a: [1]}", "a text or a number"),
        (b"ttl: &a [*a]", "a text or a number"),
        (b"a: b: c", "is not YAML"),
        (b"x: !!python/object/apply:subprocess.check_output ['true']", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
    ],
)
def test_what_is_refused(text: bytes, match: str) -> None:
    with pytest.raises(CacheError, match=match) as caught:
        parse_config(text, "f")
    assert caught.value.kind is ErrorKind.INVALID


def test_a_file_that_expands_is_refused_without_being_expanded() -> None:
    lines = ["options:", "  a0: &a0 [x, x]"] + [f"  a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(CacheError) as caught:
        parse_config("\n".join(lines).encode(), "f")
    assert len(str(caught.value)) < 300


def test_size_and_existence_are_checked(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="does not exist"):
        load_config(str(tmp_path / "x"))
    (tmp_path / "x").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(CacheError, match="larger than"):
        load_config(str(tmp_path / "x"))
