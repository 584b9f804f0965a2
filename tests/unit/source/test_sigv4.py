"""Our signatures equal those of botocore, byte for byte, over random requests."""

from __future__ import annotations

import datetime
import hashlib

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusecache.source.credentials import Credential
from fusecache.source.sigv4 import UNSIGNED_PAYLOAD, Signer, encode_key, encode_query

NOW = 1_771_934_767.0

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(str.encode)
queries = st.dictionaries(st.sampled_from(["prefix", "list-type", "max-keys", "delimiter"]), st.binary(max_size=20), max_size=4)


def botocore_headers(
    monkeypatch: pytest.MonkeyPatch, token: str, method: str, path: str, query: str, headers: dict[str, str]
) -> dict[str, str]:
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    for name in ("get_current_datetime",):
        if hasattr(botocore.auth, name):
            monkeypatch.setattr(botocore.auth, name, lambda remove_tzinfo=True: moment.replace(tzinfo=None))
    url = f"https://{headers['host']}{path}" + (f"?{query}" if query else "")
    request = botocore.awsrequest.AWSRequest(method, url, dict(headers), b"")
    request.context["payload_signing_enabled"] = True
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token or None)
    botocore.auth.S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("token", ["", "a/session+token=="])
def test_signatures_equal_botocores(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    signer = Signer("eu-central-1")
    credential = Credential("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)

    @settings(max_examples=60, deadline=None)
    @given(keys, queries, st.booleans())
    def compare(key: bytes, query: dict[str, bytes], ranged: bool) -> None:
        path, encoded = "/bucket/" + encode_key(key), encode_query(query.items())
        headers = {"host": "s3.example.com:8333", "x-amz-checksum-mode": "ENABLED"}
        if ranged:
            headers |= {"range": "bytes=0-99", "if-match": '"0123456789abcdef"'}
        ours = signer.sign(credential, "GET", path, encoded, headers, now_seconds=NOW)
        theirs = botocore_headers(monkeypatch, token, "GET", path, encoded, headers)
        assert ours["x-amz-date"] == theirs["x-amz-date"]
        assert ours["authorization"] == theirs["authorization"]

    compare()


def test_the_signing_key_follows_secret_day_and_region() -> None:
    signer = Signer("us-east-1")
    headers = {"host": "h"}
    seen = {
        signer.sign(Credential("A", secret), "GET", "/", "", headers, now_seconds=now)["authorization"].rpartition("=")[2]
        for secret in ("one", "two")
        for now in (NOW, NOW + 86400)
    }
    seen.add(
        signer.for_region("eu-west-1").sign(Credential("A", "one"), "GET", "/", "", headers, now_seconds=NOW)["authorization"][
            -64:
        ]
    )
    assert len(seen) == 5


def test_secrets_are_not_in_what_is_sent() -> None:
    signed = Signer("us-east-1").sign(
        Credential("AK", "the-secret"), "GET", "/", "", {"host": "h"}, payload_sha256=UNSIGNED_PAYLOAD
    )
    assert "the-secret" not in repr(signed)
    assert signed["x-amz-content-sha256"] == UNSIGNED_PAYLOAD


def test_keys_and_queries_are_encoded_byte_by_byte() -> None:
    assert encode_key(b"a b/+%\xff\n~-._") == "a%20b/%2B%25%FF%0A~-._"
    assert (
        encode_query([("prefix", b"a/b c"), ("max-keys", b"1"), ("delimiter", b"/")])
        == "delimiter=%2F&max-keys=1&prefix=a%2Fb%20c"
    )
    assert (
        hashlib.sha256(b"").hexdigest()
        == Signer("r").sign(Credential("a", "b"), "GET", "/", "", {"host": "h"})["x-amz-content-sha256"]
    )
