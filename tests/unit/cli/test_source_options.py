"""Which source an option is for; secrets are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.base.secret_names import refuse_secret
from fusecache.cli.source_options import assign_options
from fusecache.contract.errors import CacheError

_S3 = ("s3://a", "")
_MORE_S3 = ("s3://b", "b")
_FILE = ("/data", "local")
_HTTP = ("https://host/x", "web")


def _options(places: list[tuple[str, str]], pairs: list[tuple[str, str]]) -> dict[str, dict[str, str]]:
    return {source.subdir: dict(source.options) for source in assign_options(places, pairs)}


def test_a_bare_key_is_for_all_sources_of_the_one_kind_that_takes_options() -> None:
    assert _options([_S3, _MORE_S3, _FILE], [("region", "eu")]) == {"": {"region": "eu"}, "b": {"region": "eu"}, "local": {}}


def test_files_are_named_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor and fetch stand in /."""
    monkeypatch.chdir(tmp_path)
    pairs = [("access_key_file", "keys/access"), ("b:ca_file", "../ca.pem"), ("secret_key_file", "/etc/secret"), ("region", "eu")]
    options = _options([_S3, _MORE_S3], pairs)
    assert options[""] == {"access_key_file": f"{tmp_path}/keys/access", "secret_key_file": "/etc/secret", "region": "eu"}
    assert options["b"]["ca_file"] == f"{tmp_path.parent}/ca.pem"


def test_a_prefixed_key_is_for_one_source_and_the_last_one_wins() -> None:
    options = _options([_S3, _MORE_S3], [("region", "eu"), ("b:region", "us"), (":region", "asia")])
    assert options == {"": {"region": "asia"}, "b": {"region": "us"}}


def test_a_bare_key_that_two_kinds_could_take_is_refused() -> None:
    with pytest.raises(CacheError, match=r"could be for http:// and s3://"):
        _options([_S3, _HTTP], [("timeout", "5")])


def test_a_prefix_that_is_no_source_is_refused() -> None:
    with pytest.raises(CacheError, match="sources are at: the root"):
        _options([_S3], [("images:region", "eu")])


@pytest.mark.parametrize(
    "key",
    [
        "secret_key",
        "access_key_secret",
        "password",
        "token",
        "session_token",
        "AWS_SECRET_ACCESS_KEY",
        "fs.oss.accessKeySecret",
        "access_key",
        "account_key",
    ],
)
def test_secrets_are_refused_with_the_cure(key: str) -> None:
    with pytest.raises(CacheError, match="_file=PATH") as caught:
        _options([_S3], [(key, "hunter2-hunter2")])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "secret_key_file",
        "access_key_file",
        "session_token_file",
        "web_identity_token_file",
        "endpoint_url",
        "profile",
        "signature",
    ],
)
def test_names_of_files_and_kinds_of_signatures_are_no_secrets(key: str) -> None:
    refuse_secret(key)
