"""What options of stores become: options of our sources (docs/sources.md), one table for each kind of store.

Spellings are those of Alluxio, Hadoop, Jindo, GooseFS, JuiceFS, fsspec, mount(8) and Fluid's guides. The plain unit of a time is
that of the program the key comes from: Alluxio and Hadoop count milliseconds, the others seconds.
"""

from __future__ import annotations

from dataclasses import replace

from csi.operator.resolve.option_row import Row, Table, credential, decision, option, other_units, refused, silent
from csi.operator.resolve.option_values import boolean, chosen, endpoint, one_of, size, tenths, timeout, whole, word
from fusecache.base.units import KIB, MIB

ENCRYPTS = "encrypts"  # a decision: the store is asked to encrypt what is written, which we cannot ask for
_FILES = "name Secrets with encryptOptions: the pods have no such file"
_PARALLEL = whole(1, 1024)
_NFS_VERSION = chosen({**{each: each for each in ("3", "4", "4.0", "4.1", "4.2")}, "NFS3": "3", "NFS4": "4"})

# What every store has that speaks S3, in words that belong to no store in particular.
_S3_LIKE: tuple[Row, ...] = (
    option("endpoint_url", "endpoint", "url", convert=endpoint),
    option("region", "region_name", convert=word),
    credential("access_key", "access", "key", "access-key", "aws_access_key_id"),
    credential("secret_key", "secret", "secret-key", "aws_secret_access_key"),
    credential("session_token", "token", "session-token", "aws_session_token"),
    option("path_style", "force_path_style", convert=boolean),
    option("use_tls", convert=boolean, note="`http://` or `https://` before the endpoint"),
    option("anonymous", "anon", convert=boolean),
    option("connect_timeout", convert=timeout()),
    option("read_timeout", "timeout", "get-timeout", convert=timeout()),
    option("parallel", "parallel_requests", "max-uploads", convert=_PARALLEL),
    option("verify_etag", convert=boolean),
    option("conditional_writes", convert=boolean),
    refused("access_key_file", "secret_key_file", "session_token_file", "profile", note=_FILES),
    silent("retries", "max_retries", "io-retries", "put-timeout", note="a request is repeated until `deadline`"),
)


def _more(*rows: Row) -> tuple[Row, ...]:
    """Return the S3-like rows with further spellings: those of a row with a target that is there already."""
    given = {row.target: row for row in rows if row.target}
    known = {row.target for row in _S3_LIKE if row.target}
    merged = [
        Row((*given[row.target].keys[1:], *row.keys), row.effect, row.target, row.convert, row.note)
        if row.target in given
        else row
        for row in _S3_LIKE
    ]
    return (*merged, *(row for row in rows if row.target not in known))


S3 = Table(
    "`s3://`, `s3a://`, `minio://`",
    (
        *_more(
            option("endpoint_url", "minio-url", "alluxio.underfs.s3.endpoint", "fs.s3.endpoint", "fs.s3a.endpoint"),
            option(
                "region",
                "alluxio.underfs.s3.region",
                "alluxio.underfs.s3.endpoint.region",
                "fs.s3.region",
                "fs.s3a.endpoint.region",
            ),
            credential(
                "access_key", "minio-access-key", "aws.accessKeyId", "s3a.accessKeyId", "fs.s3.accessKeyId", "fs.s3a.access.key"
            ),
            credential(
                "secret_key",
                "minio-access-secret",
                "aws.secretKey",
                "s3a.secretKey",
                "fs.s3.accessKeySecret",
                "fs.s3a.secret.key",
            ),
            credential("session_token", "aws.sessionToken", "fs.s3.securityToken", "fs.s3a.session.token"),
            option("path_style", "alluxio.underfs.s3.disable.dns.buckets", "fs.s3a.path.style.access"),
            option("use_tls", "alluxio.underfs.s3.secure.http.enabled", "fs.s3.ssl.enable", "fs.s3a.connection.ssl.enabled"),
            option("parallel", "alluxio.underfs.s3.threads.max", "fs.s3.download.thread.concurrency"),
            option("requester_pays", "fs.s3a.requester.pays.enabled", convert=boolean),
        ),
        other_units(
            "read_timeout",
            "alluxio.underfs.s3.socket.timeout",
            "alluxio.underfs.s3.request.timeout",
            "fs.s3.client.socket.timeout",
            convert=timeout("ms"),
        ),
        other_units("connect_timeout", "fs.s3.client.connection.timeout", convert=timeout("ms")),
        decision(
            ENCRYPTS,
            "alluxio.underfs.s3.server.side.encryption.enabled",
            convert=boolean,
            note="refused on a Dataset that may be written: switch encryption on for the bucket",
        ),
        silent("alluxio.underfs.s3.max.error.retry", note="a request is repeated until `deadline`"),
        silent(
            "alluxio.underfs.s3.inherit.acl",
            "alluxio.underfs.s3.directory.suffix",
            "alluxio.underfs.s3.default.mode",
            "alluxio.underfs.s3.list.objects.v1",
            "alluxio.underfs.object.store.breadcrumbs.enabled",
            "alluxio.underfs.s3.upload.threads.max",
            "fs.s3.*.queue.size",
            "fs.s3.upload.*",
        ),
    ),
)
OSS = Table(
    "`oss://`",
    (
        *_more(
            option("endpoint_url", "fs.oss.endpoint"),
            option("region", "fs.oss.region"),
            credential("access_key", "fs.oss.accessKeyId"),
            credential("secret_key", "fs.oss.accessKeySecret"),
            credential("session_token", "fs.oss.securityToken"),
            option("parallel", "fs.oss.download.thread.concurrency"),
            option("signature", convert=one_of("auto", "v4", "v1", "s3")),
        ),
        refused("fs.oss.provider.*", note="a credential service cannot be asked for keys: give them with encryptOptions"),
        silent("fs.oss.download.queue.size", "fs.oss.upload.*"),
    ),
)
COS = Table(
    "`cos://`, `cosn://`",
    _more(
        option("endpoint_url", "fs.cos.endpoint", "fs.cosn.bucket.endpoint_suffix"),
        option("region", "fs.cosn.bucket.region", "fs.cosn.userinfo.region", "fs.cos.region"),
        credential("access_key", "fs.cos.accessKeyId", "fs.cosn.userinfo.secretId", "fs.cos.access.key"),
        credential("secret_key", "fs.cos.accessKeySecret", "fs.cosn.userinfo.secretKey", "fs.cos.secret.key"),
        credential("session_token", "fs.cos.securityToken"),
    ),
)
OBS = Table(
    "`obs://`",
    _more(
        option("endpoint_url", "fs.obs.endpoint"),
        credential("access_key", "fs.obs.accessKeyId", "fs.obs.access.key"),
        credential("secret_key", "fs.obs.accessKeySecret", "fs.obs.secret.key"),
    ),
)
BOS = Table(
    "`bos://`",
    _more(
        option("endpoint_url", "fs.bos.endpoint"),
        credential("access_key", "fs.bos.accessKeyId", "fs.bos.access.key"),
        credential("secret_key", "fs.bos.accessKeySecret", "fs.bos.secret.access.key"),
    ),
)
GS = Table(
    "`gs://`, `gcs://`",
    _more(
        credential("access_key", "fs.gcs.accessKeyId", note="an HMAC key"),
        credential("secret_key", "fs.gcs.secretAccessKey", note="of an HMAC key"),
        refused("fs.gcs.credential.path", note="give an HMAC key (access_key, secret_key) with encryptOptions"),
    ),
)
AZURE = Table(
    "`abfs://`, `abfss://`, `wasb://`, `wasbs://`, `az://`",
    (
        option("account_name", convert=word),
        credential("account_key", "fs.azure.account.key.*"),
        credential("sas_token", "fs.azure.sas.*"),
        option("tenant_id", "fs.azure.account.oauth2.tenant.id", convert=word),
        option("client_id", "fs.azure.account.oauth2.client.id", convert=word),
        credential("client_secret", "fs.azure.account.oauth2.client.secret"),
    ),
)
NFS = Table(
    "`nfs://`, `cpfs://`",
    (
        option("vers", "nfsvers", "protocol", convert=_NFS_VERSION),
        option("port", convert=whole(1, 65535)),
        option("mountport", convert=whole(1, 65535)),
        other_units("timeout", "timeo", convert=tenths, note="tenths of a second"),
        option("timeout", convert=timeout()),
        option("rsize", convert=size(4 * KIB, MIB)),
        option("uid", convert=whole(0, (1 << 31) - 1)),
        option("gid", convert=whole(0, (1 << 31) - 1)),
        option("parallel_requests", "nconnect", convert=whole(1, 64)),
        silent(
            "nolock", "lock", "hard", "soft", "retrans", "noresvport", "resvport", "proto", "wsize", "tcp", "noatime", "_netdev"
        ),
        refused("sec", "krb5*", note="Kerberos is not spoken: export with sec=sys"),
        silent("efc.nas.accessKeyId", "efc.nas.accessKeySecret", note="quotas are not asked for"),
    ),
)
WEB = Table(
    "`https://`, `http://`",
    (
        replace(option("user", convert=word), may_be_secret=True),
        credential("password"),
        credential("token", note="a bearer token"),
        option("connect_timeout", convert=timeout()),
        other_units("connect_timeout", "alluxio.underfs.web.connnection.timeout", convert=timeout("ms")),
        option("read_timeout", convert=timeout()),
        option("ranges", convert=one_of("auto", "yes", "no")),
        option("parallel_requests", convert=whole(1, 256)),
        silent(
            "alluxio.underfs.web.titles",
            "alluxio.underfs.web.parent.names",
            "alluxio.underfs.web.header.last.modified",
            note="listings are recognized by their links",
        ),
        refused("user_file", "password_file", "token_file", "netrc_file", note=_FILES),
    ),
)  # fmt: skip
FILES = Table("`pvc://`, `local://`", ())
# Of a plain bucket that a JuiceFS mount point names: see juicefs_bucket.
JUICEFS = Table(
    "`juicefs://`",
    (
        decision("storage", "storage", note="kind of the store that the bucket is in"),
        decision("bucket", "bucket", note="address of the bucket, whose plain objects are shown"),
        decision("subdir", "subdir", note="as the directory of the mount point"),
        decision(
            "quota", "quota", note="refused on a Dataset that may be written, as nobody would keep to it; else of no effect"
        ),
        credential("access_key", "access-key"),
        credential("secret_key", "secret-key"),
        credential("session_token", "session-token"),
        option("read_timeout", "get-timeout", convert=timeout()),
        option("parallel", "max-uploads", convert=_PARALLEL),
        silent("io-retries", "put-timeout", "max-deletes", note="a request is repeated until `deadline`"),
        refused("metaurl", note="JuiceFS-formatted volume: reading its metadata is not supported"),
        refused("token", note="JuiceFS-formatted volume of the cloud service: reading its metadata is not supported"),
        refused("bucket2", "access-key2", "secret-key2", "storage2", note="a second store is not supported"),
    ),
)

TABLES: dict[str, Table] = {
    "s3": S3,
    "oss": OSS,
    "cos": COS,
    "obs": OBS,
    "bos": BOS,
    "gs": GS,
    "abfs": AZURE,
    "nfs": NFS,
    "http": WEB,
    "file": FILES,
    "juicefs": JUICEFS,
}
