"""Our OSS signatures equal those of Alibaba's oss2."""

from __future__ import annotations

import datetime
from unittest import mock

import oss2.auth
import oss2.credentials
import oss2.http
import oss2.utils
import pytest

from fusecache.source.credentials import Credential
from fusecache.source.oss_signature import OssV1, OssV4
from fusecache.source.sigv4 import encode_key, encode_query

NOW = 1_771_934_767.0
KEYS = ["plain", "dir/with space", "umläut+%", "日本/語", "q?&="]
QUERIES: list[dict[str, str]] = [{}, {"list-type": "2", "prefix": "a b/", "continuation-token": "abc+/=", "max-keys": "3"}]


def oss2_request(key: str, query: dict[str, str], region: str | None) -> oss2.http.Request:
    return oss2.http.Request("GET", "https://b.oss.example.com/", params=dict(query), headers={}, region=region, product="oss")


@pytest.mark.parametrize("token", ["", "sts-token"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("query", QUERIES)
def test_version_4(key: str, query: dict[str, str], token: str) -> None:
    request = oss2_request(key, query, "cn-beijing")
    provider = oss2.credentials.StaticCredentialsProvider("LTAI", "secret", token or None)
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC).replace(tzinfo=None)
    with mock.patch.object(oss2.auth, "datetime", mock.Mock(utcnow=lambda: moment)):
        oss2.auth.ProviderAuthV4(provider)._sign_request(request, "bucket", key)
    path = encode_key(key.encode())
    encoded = encode_query((name, value.encode()) for name, value in query.items())
    ours = OssV4("cn-beijing").sign(
        Credential("LTAI", "secret", token),
        "GET",
        f"/{path}",
        encoded,
        {"host": "h"},
        resource=f"/bucket/{path}",
        now_seconds=NOW,
    )
    assert ours["authorization"].replace(" ", "") == request.headers["authorization"].replace(" ", "")


@pytest.mark.parametrize("token", ["", "sts-token"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("query", QUERIES)
def test_version_1(key: str, query: dict[str, str], token: str) -> None:
    request = oss2_request(key, query, None)
    provider = oss2.credentials.StaticCredentialsProvider("LTAI", "secret", token or None)
    path = encode_key(key.encode())
    encoded = encode_query((name, value.encode()) for name, value in query.items())
    ours = OssV1().sign(
        Credential("LTAI", "secret", token),
        "GET",
        f"/{path}",
        encoded,
        {"host": "h"},
        resource=f"/bucket/{path}",
        now_seconds=NOW,
    )
    with mock.patch.object(oss2.utils, "http_date", return_value=ours["date"]):
        oss2.auth.ProviderAuth(provider)._sign_request(request, "bucket", key)
    assert ours["authorization"] == request.headers["authorization"]
