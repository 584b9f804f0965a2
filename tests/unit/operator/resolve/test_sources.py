"""Mount points, options and Secrets become sources; what cannot be is refused."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.resolved import ClearText, SecretKey
from tests.support.resolving import encrypted, mounted, outcome, problems, refusal, resolved

KEYS = [encrypted("access_key"), encrypted("secret_key")]


def only_source(mount_point: str, **mount: Any) -> Any:
    (source,) = mounted(mount_point, **mount).sources
    return source


@pytest.mark.parametrize(
    ("mount_point", "options", "url", "expected"),
    [
        ("s3://bucket", {}, "s3://bucket", {}),
        ("s3a://bucket/a//b/", {"alluxio.underfs.s3.region": "eu-west-1"}, "s3://bucket/a//b", {"region": "eu-west-1"}),
        (
            "minio://bucket",
            {"minio-url": "http://minio:9000"},
            "s3://bucket",
            {"endpoint_url": "http://minio:9000"},
        ),
        (
            "s3://bucket",
            {
                "alluxio.underfs.s3.endpoint": "store:9000",
                "alluxio.underfs.s3.disable.dns.buckets": "true",
                "alluxio.underfs.s3.secure.http.enabled": "FALSE",
                "alluxio.underfs.s3.socket.timeout": "500sec",
                "alluxio.underfs.s3.threads.max": "20",
                "alluxio.underfs.s3.inherit.acl": "false",
            },
            "s3://bucket",
            {"endpoint_url": "http://store:9000", "path_style": "true", "read_timeout": "500", "parallel": "20"},
        ),
        ("s3://bucket", {"alluxio.underfs.s3.socket.timeout": "50000"}, "s3://bucket", {"read_timeout": "50"}),
        (
            "oss://bucket/",
            {"fs.oss.endpoint": "oss-cn-beijing.aliyuncs.com"},
            "oss://bucket",
            {"endpoint_url": "oss-cn-beijing.aliyuncs.com"},
        ),
        (
            "oss://b/p",
            {"fs.oss.endpoint": "one.com", "fs.oss.bucket.b.endpoint": "two.com", "fs.oss.bucket.b.region": "r"},
            "oss://b/p",
            {"endpoint_url": "two.com", "region": "r"},
        ),
        (
            "cosn://bucket-1250000000/dir",
            {"fs.cosn.bucket.region": "ap-beijing"},
            "s3://bucket-1250000000/dir",
            {"endpoint_url": "cos.ap-beijing.myqcloud.com", "path_style": "false", "region": "ap-beijing"},
        ),
        (
            "obs://bucket",
            {"fs.obs.endpoint": "obs.cn-north-4.myhuaweicloud.com"},
            "s3://bucket",
            {"endpoint_url": "obs.cn-north-4.myhuaweicloud.com", "path_style": "false"},
        ),
        ("gcs://bucket/dir", {}, "gs://bucket/dir", {}),
        (
            "gs://bucket",
            {"anonymous": "true"},
            "s3://bucket",
            {"anonymous": "true", "endpoint_url": "https://storage.googleapis.com"},
        ),
        ("wasb://box@acc.blob.core.windows.net/dir", {}, "abfs://box/dir", {"account_name": "acc"}),
        ("nfs://server:/share/my dir", {"vers": "4.1"}, "nfs://server/share/my%20dir", {"gid": "0", "uid": "0", "vers": "4.1"}),
        (
            "nfs://server:2050/share",
            {"timeo": "600", "nolock": ""},
            "nfs://server:2050/share",
            {"gid": "0", "timeout": "60", "uid": "0"},
        ),
        (
            "cpfs://f.example.com:/share/a",
            {"protocol": "nfs3"},
            "nfs://f.example.com/share/a",
            {"gid": "0", "uid": "0", "vers": "3"},
        ),
        ("https://host:8443/dir/", {}, "https://host:8443/dir/", {}),
        ("http://host/dir/", {"alluxio.underfs.web.connnection.timeout": "10s"}, "http://host/dir/", {"connect_timeout": "10"}),
        ("pvc://claim/a%20/?b", {}, "file:///claims/claim/a%2520/%3Fb", {}),
        ("local:///mnt/data", {}, "file:///local/mnt/data", {}),
        (
            "juicefs:///sub",
            {"storage": "minio", "bucket": "http://minio:9000/plain"},
            "s3://plain/sub",
            {"endpoint_url": "http://minio:9000", "path_style": "true"},
        ),
        (
            "juicefs:///",
            {"storage": "oss", "bucket": "https://plain.oss-cn-x.aliyuncs.com", "subdir": "/a/b"},
            "oss://plain/a/b",
            {"endpoint_url": "https://oss-cn-x.aliyuncs.com"},
        ),
        (
            "juicefs:///",
            {"storage": "s3", "bucket": "https://plain.s3.eu-west-1.amazonaws.com", "quota": "1Gi"},
            "s3://plain",
            {"region": "eu-west-1"},
        ),
    ],
)
def test_addresses_and_options(mount_point: str, options: dict[str, str], url: str, expected: dict[str, str]) -> None:
    data = mounted(mount_point, options=options)
    (source,) = data.sources
    assert (source.url, source.options) == (url, expected)
    assert data.remarks[1:] == ()  # the first one is about the tier


def test_claims_and_directories_of_nodes() -> None:
    assert only_source("pvc://claim/dir").claim == "claim"
    assert only_source("local:///mnt/data/").host_path == "/mnt/data"


def test_layers_of_options() -> None:
    dataset = {
        "sharedOptions": {"fs.s3.region": "shared", "fs.s3.endpoint": "shared:1"},
        "mounts": [
            {"mountPoint": "s3://a", "path": "/a", "options": {"region": "own"}},
            {"mountPoint": "s3://b", "path": "/b"},
            {"mountPoint": "local:///c", "path": "/c"},
        ],
    }
    runtime = {"properties": {"fs.s3.region": "runtime", "alluxio.underfs.s3.threads.max": "7"}}
    first, second, third = resolved(dataset, runtime).sources
    assert first.options == {"endpoint_url": "shared:1", "parallel": "7", "region": "own"}
    assert second.options == {"endpoint_url": "shared:1", "parallel": "7", "region": "shared"}
    assert (third.options, third.place) == ({}, "c")


def test_the_first_spelling_of_the_table_counts() -> None:
    options = {"alluxio.underfs.s3.endpoint.region": "late", "alluxio.underfs.s3.region": "early"}
    assert only_source("s3://a", options=options).options == {"region": "early"}


def test_secrets() -> None:
    source = only_source(
        "s3://a",
        encryptOptions=[encrypted("aws.accessKeyId", "one", "id"), encrypted("aws.secretKey", "two"), encrypted("token")],
    )
    assert source.secrets == {
        "access_key": SecretKey("one", "id"),
        "secret_key": SecretKey("two", "aws.secretKey"),
        "session_token": SecretKey("keys", "token"),
    }
    web = only_source("https://host/d/", encryptOptions=[encrypted("user"), encrypted("password")])
    assert (set(web.secrets), web.options) == ({"user", "password"}, {})


def test_shared_secrets_and_those_of_a_mount() -> None:
    dataset = {
        "sharedEncryptOptions": [encrypted("access_key"), encrypted("secret_key")],
        "mounts": [
            {"mountPoint": "s3://a", "path": "/a"},
            {"mountPoint": "pvc://b", "path": "/b"},
            {
                "mountPoint": "s3://c",
                "path": "/c",
                "encryptOptions": [encrypted("access_key", "own"), encrypted("secret_key", "own")],
            },
        ],
    }
    first, second, third = resolved(dataset, {}).sources
    assert (set(first.secrets), second.secrets) == ({"access_key", "secret_key"}, {})
    assert third.secrets == {"access_key": SecretKey("own", "access_key"), "secret_key": SecretKey("own", "secret_key")}


def test_the_secret_of_a_jindo_runtime() -> None:
    options = {"fs.oss.endpoint": "e.com"}
    (source,) = mounted("oss://b", {"secret": "oss"}, "JindoRuntime", options=options).sources
    assert source.secrets == {
        "access_key": SecretKey("oss", "AccessKeyId"),
        "secret_key": SecretKey("oss", "AccessKeySecret"),
        "session_token": SecretKey("oss", "SecurityToken", is_optional=True),
    }
    (source,) = mounted("oss://b", {"secret": "oss"}, "JindoRuntime", options=options, encryptOptions=KEYS).sources
    assert source.secrets == {"access_key": SecretKey("keys", "access_key"), "secret_key": SecretKey("keys", "secret_key")}
    assert mounted("s3://b", {"secret": "oss"}, "JindoRuntime").sources[0].secrets == {}


def test_credentials_in_clear_text_are_used_and_told() -> None:
    data = mounted("s3://a", {"properties": {"aws.secretKey": "hush"}}, options={"aws.accessKeyId": "who"})
    assert data.sources[0].secrets == {
        "access_key": ClearText(("mounts", 0, "options", "aws.accessKeyId")),
        "secret_key": ClearText(("properties", "aws.secretKey"), on_runtime=True),
    }
    of_dataset, of_runtime, _ = data.remarks
    assert of_dataset.reason == of_runtime.reason == "PlaintextCredential"
    assert (of_dataset.on_runtime, of_runtime.on_runtime) == (False, True)
    assert "spec.mounts[0].options['aws.accessKeyId']" in of_dataset.message
    assert "hush" not in str(data)
    assert "who" not in str(data).replace("whose", "").replace("whoever", "")


def test_an_encrypted_credential_wins_over_a_property_of_the_runtime() -> None:
    runtime = {"properties": {"aws.accessKeyId": "a", "aws.secretKey": "b"}}
    source = mounted("s3://a", runtime, encryptOptions=KEYS).sources[0]
    assert source.secrets == {"access_key": SecretKey("keys", "access_key"), "secret_key": SecretKey("keys", "secret_key")}


def test_nfs_servers_see_whom_the_runtime_runs_as() -> None:
    run_as = {"uid": 1000, "gid": 100, "user": "a", "group": "a"}
    data = mounted("nfs://s:/d", {"runAs": run_as})
    assert data.sources[0].options == {"gid": "100", "uid": "1000"}


@pytest.mark.parametrize(
    ("mount_point", "mount", "words"),
    [
        ("file:///a", {}, "unknown scheme; known are abfs://"),
        ("/plain/path", {}, "unknown scheme"),
        ("hdfs://nn:8020/a", {}, "hdfs://, which comes later"),
        ("s3:///prefix", {}, "names no bucket: write s3://bucket"),
        ("s3://key:hush@bucket", {}, "has credentials in it"),
        ("https://user:hush@host/", {}, "has credentials in it"),
        ("https://host/?list", {}, "is no web directory"),
        ("https://host:99999/", {}, "is no web directory"),
        ("nfs://server", {}, "is no NFS export"),
        ("nfs://server:/a/../b", {}, "contains .."),
        ("pvc:///dir", {}, "names no claim"),
        ("pvc://a/../b", {}, "contains .."),
        ("pvc://data/dir", {}, "names the claim that the Dataset itself will have"),
        ("local://dir", {}, "is no directory of a node"),
        ("local:///", {}, "is the whole file system of a node"),
        ("juicefs://dir", {}, "three slashes"),
        ("oss://b", {}, "oss endpoint can not be null"),
        ("oss://b", {"options": {"fs.oss.endpoint": "cn-x.oss-dls.aliyuncs.com"}}, "OSS-HDFS"),
        ("https://h/", {"options": {"user": "me"}}, "only one of user and password"),
        ("https://h/", {"encryptOptions": [encrypted("token"), encrypted("password"), encrypted("user")]}, "exclude each other"),
        ("oss://b", {"options": {"fs.oss.endpoint": "e.com", "signature": "v4"}}, "signature v4 needs the region"),
        ("oss://b", {"options": {"fs.oss.endpoint": "e.com", "fs.oss.provider.endpoint": "x"}}, "credential service"),
        ("minio://b", {}, "give option minio-url"),
        ("cos://b", {}, "give its region or endpoint"),
        ("az://b", {}, "the account is not named"),
        ("s3://b", {"options": {"endpoint": "http://user:hush@host"}}, "options.endpoint must be a host"),
        ("s3://b", {"options": {"parallel": "hush"}}, "spec.mounts[0].options.parallel must be a whole number from 1"),
        ("s3://b", {"options": {"access_key": "hush"}}, "only one of access key and secret key"),
        ("s3://b", {"options": {"token": "hush"}}, "a session token belongs to an access key"),
        ("s3://b", {"options": {"profile": "x"}}, "name Secrets with encryptOptions"),
        (
            "s3://b",
            {"options": {"access_key": "hush"}, "encryptOptions": KEYS},
            "option access_key is set both in options and in encryptOptions",
        ),
        (
            "s3://b",
            {"options": {"aws.accessKeyId": "hush"}, "encryptOptions": KEYS},
            "option aws.accessKeyId is set both in options and in encryptOptions",
        ),
        (
            "oss://b",
            {"options": {"fs.oss.endpoint": "e.com", "fs.oss.accessKeyId": "hush"}, "encryptOptions": KEYS[1:]},
            "one of access key and secret key is encrypted",
        ),
        ("s3://b", {"encryptOptions": [encrypted("region")]}, "region cannot be taken from a Secret"),
        ("s3://b", {"encryptOptions": [encrypted("odd")]}, "odd is no secret option of this kind of store"),
        ("s3://b", {"encryptOptions": [*KEYS, encrypted("token", "Not A Name")]}, "secretKeyRef.name is no name of a Secret"),
        ("s3://b", {"encryptOptions": [*KEYS, encrypted("token", "a", "k/y")]}, "secretKeyRef.key is no key"),
        (
            "juicefs:///",
            {"encryptOptions": [encrypted("metaurl")]},
            "JuiceFS-formatted volume: reading its metadata is not supported",
        ),
        ("juicefs:///", {}, "give options storage and bucket"),
        (
            "juicefs:///a",
            {"options": {"storage": "s3", "bucket": "http://h/b", "subdir": "c"}},
            "option subdir and the directory",
        ),
        ("juicefs:///a", {"options": {"storage": "ftp", "bucket": "http://h/b"}}, "option storage is none of"),
        ("juicefs:///a", {"options": {"storage": "s3", "bucket": "http://u:hush@h/b"}}, "option bucket is no address"),
        ("juicefs:///a", {"options": {"storage": "s3", "bucket": "http://h/b", "bucket2": "x"}}, "a second store"),
    ],
)
def test_refusals(mount_point: str, mount: dict[str, Any], words: str) -> None:
    dataset = {"mounts": [{"mountPoint": mount_point, "path": "/", **mount}]}
    found = problems(dataset, {})
    assert any(words in problem.message for problem in found), found
    assert all(problem.reason == "ErrorValidateSpecFields" and not problem.on_runtime for problem in found)
    assert "hush" not in str(found)
    assert all("spec.mounts[0]" in problem.message for problem in found)


def test_what_is_refused_only_when_it_can_be_written() -> None:
    plain = {"storage": "s3", "bucket": "http://h/b", "quota": "1Gi"}
    encrypting = {"alluxio.underfs.s3.server.side.encryption.enabled": "true"}
    for mount_point, options in (("juicefs:///", plain), ("s3://b", encrypting)):
        mount = {"mountPoint": mount_point, "options": options}
        assert resolved({"mounts": [mount]}, {}).read_write is False
        (problem,) = problems({"mounts": [mount], "accessModes": ["ReadWriteMany"]}, {})
        assert ("quota" in problem.message) or ("encryption" in problem.message)
        resolved({"mounts": [{**mount, "readOnly": True}], "accessModes": ["ReadWriteMany"]}, {})


def test_places() -> None:
    mounts = [
        {"mountPoint": "s3://a", "name": "images"},
        {"mountPoint": "s3://b", "path": "/x//./y/", "name": "no"},
        {"mountPoint": "s3://c", "name": "/"},
        {"mountPoint": "s3://d", "name": "z", "path": "relative"},
    ]
    data = resolved({"mounts": mounts}, {})
    assert [source.place for source in data.sources] == ["images", "x/y", "", "z"]
    assert any("spec.mounts[3].path" in remark.message for remark in data.remarks if remark.reason == "FieldIgnored")


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        ([{"path": "/a"}, {"name": "a"}], "mounts[0] and mounts[1] both at /a: give one of them another path"),
        ([{"path": "/"}, {"name": ""}], "mounts[0] and mounts[1] both at /: give one of them another path"),
        ([{"path": "/a/../b"}], "spec.mounts[0].path contains ..: write the directory that is meant"),
        ([{"name": "a/.."}], "spec.mounts[0].name contains ..: write the directory that is meant"),
    ],
)
def test_wrong_places(mounts: list[dict[str, Any]], message: str) -> None:
    (problem,) = problems({"mounts": [{"mountPoint": "s3://bucket", **mount} for mount in mounts]}, {})
    assert (problem.reason, problem.message) == ("ErrorValidateSpecFields", message)


def test_unknown_options_are_named_once() -> None:
    dataset = {
        "mounts": [{"mountPoint": "s3://a", "path": "/a", "options": {"odd": "hush"}}, {"mountPoint": "pvc://b", "path": "/b"}],
        "sharedOptions": {"fs.s3.region": "used", "other": "hush"},
    }
    data = resolved(dataset, {"properties": {"alluxio.odd": "hush", "alluxio.master.odd": "1"}, "tieredstore": {"levels": []}})
    of_dataset, of_runtime = [remark for remark in data.remarks if remark.reason == "OptionIgnored"]
    assert of_dataset.message == "without effect here: spec.mounts[0].options.odd, spec.sharedOptions.other"
    assert of_runtime.message == "without effect here: spec.properties['alluxio.odd']"
    assert of_runtime.on_runtime


def test_web_sources_are_read_only_even_where_others_can_be_written() -> None:
    dataset = {
        "mounts": [{"mountPoint": "https://h/", "path": "/web"}, {"mountPoint": "s3://b", "path": "/b"}],
        "accessModes": ["ReadWriteMany"],
    }
    data = resolved(dataset, {})
    assert [source.read_only for source in data.sources] == [True, False]
    (remark,) = [remark for remark in data.remarks if remark.reason == "ErrorValidateSpecFields"]
    assert remark.message.startswith("web sources are read-only")


def test_all_problems_are_told_at_once() -> None:
    found = outcome({"mounts": [{"mountPoint": "s3:///"}, {"mountPoint": "pvc://a/../b"}], "accessModes": ["odd"]}, {})
    assert isinstance(found, list)
    assert len(found) == 3


def test_refusal_helper_is_about_one_mount() -> None:
    assert refusal("hdfs://a:1/b").startswith("spec.mounts[0].mountPoint is of scheme hdfs://")
