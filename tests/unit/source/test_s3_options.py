"""Every spelling of an option is understood, and a misspelt one is refused with the nearest right one."""

from __future__ import annotations

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.oss_options import OssOptions, parse_oss_options
from fusecache.source.s3 import bucket_settings, split_url
from fusecache.source.s3_options import ALIASES, S3Options, parse_s3_options


def s3(environment: dict[str, str] | None = None, /, **options: str) -> S3Options:
    return parse_s3_options("s3", options, environment or {})


def oss(bucket: str = "b", environment: dict[str, str] | None = None, **options: str) -> OssOptions:
    return parse_oss_options(bucket, {name.replace("__", "."): value for name, value in options.items()}, environment or {})


@pytest.mark.parametrize("spelling", ["endpoint_url", *ALIASES["endpoint_url"]])
def test_spellings_of_the_endpoint(spelling: str) -> None:
    assert s3(**{spelling: "http://host:9000/"}).endpoint_url == "http://host:9000"


@pytest.mark.parametrize("access", ["access_key", *ALIASES["access_key"]])
@pytest.mark.parametrize("secret", ["secret_key", *ALIASES["secret_key"]])
def test_spellings_of_the_keys(access: str, secret: str) -> None:
    found = s3(**{access: "AK", secret: "S"}).credentials
    assert (found.access_key, found.secret_key) == ("AK", "S")


def test_endpoints_without_a_scheme() -> None:
    assert s3(endpoint_url="minio:9000").endpoint_url == "https://minio:9000"
    assert s3(**{"endpoint_url": "minio:9000", "fs.s3.ssl.enable": "false"}).endpoint_url == "http://minio:9000"


@pytest.mark.parametrize("wrong", ["ftp://x", "http://", "http://h:99999", "http://user:hush@h", "http://h?x=1"])
def test_wrong_endpoints(wrong: str) -> None:
    with pytest.raises(CacheError) as caught:
        s3(endpoint_url=wrong)
    assert caught.value.kind is ErrorKind.INVALID
    assert "hush" not in str(caught.value)


def test_the_environment_fills_what_options_leave_open() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://env:1", "AWS_REGION": "eu-west-1", "AWS_CA_BUNDLE": "/ca.pem", "AWS_PROFILE": "p"}
    found = s3(environment)
    assert (found.endpoint_url, found.region, found.ca_file, found.credentials.profile) == (
        "http://env:1",
        "eu-west-1",
        "/ca.pem",
        "p",
    )
    assert s3(environment, endpoint_url="http://mine", region="r").endpoint_url == "http://mine"
    assert s3({"AWS_ENDPOINT_URL_S3": "http://s3only", **environment}).endpoint_url == "http://s3only"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("500ms", 0.5), ("500sec", 500), ("5min", 300), ("1.5s", 1.5), ("2h", 7200)]
)
def test_durations(text: str, seconds: float) -> None:
    assert s3(**{"alluxio.underfs.s3.socket.timeout": text}).read_timeout_seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "5 parsecs"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(CacheError, match="read_timeout"):
        s3(read_timeout=text)


def test_unknown_keys_are_refused_with_the_nearest() -> None:
    with pytest.raises(CacheError, match=r"alluxio\.underfs\.s3\.endpoint'") as caught:
        s3(**{"alluxio.underfs.s3.endpont": "http://x"})
    assert caught.value.kind is ErrorKind.INVALID
    with pytest.raises(CacheError, match="'path_style'"):
        s3(pathstyle="true")


def test_the_known_keys_that_a_message_lists_are_our_own() -> None:
    with pytest.raises(CacheError, match="known options: ") as caught:
        s3(qqq="1")
    assert "endpoint_url" in str(caught.value)
    assert "alluxio" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_keys_of_other_clients_are_accepted() -> None:
    assert s3(**{"alluxio.underfs.s3.inherit.acl": "false", "io-retries": "3"}) == s3()


def test_addressing() -> None:
    assert bucket_settings("s3://b", "b", s3()).is_path_style is False
    assert bucket_settings("s3://b.c", "b.c", s3()).is_path_style is True
    assert bucket_settings("s3://b", "b", s3(endpoint_url="http://h")).is_path_style is True
    assert bucket_settings("s3://b", "b", s3(endpoint_url="http://h", path_style="false")).is_path_style is False


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("s3://b", b""), ("s3://b/", b""), ("s3://b/p", b"p/"), ("s3://b/p/q//", b"p/q/"), ("s3://b/%20?x#y", b"%20?x#y/")],
)
def test_urls(url: str, prefix: bytes) -> None:
    assert split_url(url, ("s3",)) == ("s3", "b", prefix)


@pytest.mark.parametrize("url", ["s3:/b", "s3://", "s3:///p", "s3://AK:secret@b/p", "gs://b"])
def test_wrong_urls(url: str) -> None:
    with pytest.raises(CacheError) as caught:
        split_url(url, ("s3",))
    assert caught.value.kind is ErrorKind.INVALID


def test_oss_endpoints_are_https_and_name_their_region() -> None:
    found = oss(fs__oss__endpoint="oss-cn-beijing-internal.aliyuncs.com", fs__oss__accessKeyId="a", fs__oss__accessKeySecret="b")
    assert (found.endpoint_url, found.region, found.signature) == (
        "https://oss-cn-beijing-internal.aliyuncs.com",
        "cn-beijing",
        "v4",
    )
    assert oss(fs__oss__endpoint="http://data.example.com").signature == "v1"
    assert oss(fs__oss__endpoint="s3.oss-cn-beijing.aliyuncs.com").signature == "s3"
    assert oss(fs__oss__endpoint="http://127.0.0.1:8333", path_style="true").signature == "s3"
    assert oss(environment={"OSS_ENDPOINT": "oss-cn-hongkong.aliyuncs.com"}).region == "cn-hongkong"


def test_oss_keys_of_this_bucket_win() -> None:
    found = parse_oss_options(
        "mine",
        {
            "fs.oss.endpoint": "oss-cn-beijing.aliyuncs.com",
            "fs.oss.bucket.mine.endpoint": "oss-cn-shanghai.aliyuncs.com",
            "fs.oss.bucket.other.endpoint": "nowhere",
        },
        {},
    )
    assert found.region == "cn-shanghai"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, ErrorKind.INVALID),
        ({"fs.oss.endpoint": "cn-beijing.oss-dls.aliyuncs.com"}, ErrorKind.UNSUPPORTED),
        ({"fs.oss.endpoint": "h", "fs.oss.provider.endpoint": "x"}, ErrorKind.UNSUPPORTED),
        ({"fs.oss.endpoint": "h", "fs.oss.accessKeyId": "only"}, ErrorKind.INVALID),
        ({"fs.oss.endpoint": "h", "fs.oss.endpiont": "x"}, ErrorKind.INVALID),
        ({"fs.oss.endpoint": "h", "signature": "v4"}, ErrorKind.INVALID),
        ({"fs.oss.endpoint": "h", "fs.oss.bucket.b.endpont": "x"}, ErrorKind.INVALID),
    ],
)
def test_oss_refusals(options: dict[str, str], kind: ErrorKind) -> None:
    with pytest.raises(CacheError) as caught:
        parse_oss_options("b", options, {})
    assert caught.value.kind is kind
