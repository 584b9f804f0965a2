"""Settings by name: values in the type of their field, and spelling."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fusecache.base.settings import SETTINGS, parse_setting, reject_misspelt
from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import Access, Engine, MountSpec, Verify


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("engine", "native", Engine.NATIVE),
        ("access", "OpenLess", Access.OPENLESS),
        ("verify", "always", Verify.ALWAYS),
        ("block_size", "2Mi", 2 << 20),
        ("ttl", "5m", 300.0),
        ("ttl", "0", 0.0),
        ("deadline", "500ms", 0.5),
        ("prefetch", "no", False),
        ("allow_other", "true", True),
        ("file_mode", "0640", 0o640),
        ("serve_processes", "4", 4),
        ("log_level", "debug", "DEBUG"),
        ("cache_dir", "/x", "/x"),
    ],
)
def test_value(name: str, text: str, value: Any) -> None:
    assert parse_setting(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("engine", "fast"),
        ("block_size", "100000"),
        ("ttl", "soon"),
        ("deadline", "0"),
        ("file_mode", "0999"),
        ("serve_processes", "0"),
        ("prefetch", "maybe"),
        ("log_level", "LOUD"),
        ("uid", "-1"),
        ("fetch_memory", "1Ki"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_must_be(name: str, text: str) -> None:
    with pytest.raises(CacheError, match=f"{name} is '{text}'; it must be "):
        parse_setting(name, text)


def test_every_field_a_user_may_choose_has_a_setting() -> None:
    made_by_us = {"dataset_id", "mountpoint", "sources", "tiers", "state_dir", "run_dir", "peers"}
    fields = {field.name for field in dataclasses.fields(MountSpec)} - made_by_us
    assert fields == {setting.field for setting in SETTINGS.values()} - {""}


def test_a_misspelt_setting_is_not_taken_for_an_option_of_a_source() -> None:
    with pytest.raises(CacheError, match="did you mean 'block_size'"):
        reject_misspelt("block_sise")
    for key in ("endpoint_url", "region", "verify_tls", "fs.oss.endpoint", "timeout"):
        reject_misspelt(key)
