"""Writes objects into a bucket of an S3-speaking store (or OSS, which differs in its headers).

Holds what was found out about the store when it was checked; any thread. A change that the store refuses because something else
is there than was expected may have met its own lost answer: the object's metadata name the operation that made it, and one HEAD
tells.

Requests: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html and its neighbours.
"""

from __future__ import annotations

import email.utils
import re
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape, unescape

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.body import BufferBody
from fusecache.source.object_metadata import OPERATION, metadata_headers, metadata_of
from fusecache.source.object_version import if_match_of_version, version_of_etag
from fusecache.source.protocol import Entry, EntryKind
from fusecache.source.s3_errors import Refusal
from fusecache.source.s3_rest import S3RestClient, SmallAnswer
from fusecache.source.sigv4 import encode_key, encode_query
from fusecache.source.upload_checksum import UploadChecksums
from fusecache.source.write_protocol import Body, Guard, Kept, Metadata, Part, Upload, WriteCapabilities

LEAST_PART_BYTES = 5 << 20
MOST_PART_BYTES = 5 << 30
MOST_PARTS = 10_000
MOST_COPY_BYTES = 5 << 30  # of one request that copies
COPY_PART_BYTES = 1 << 30
_CREATES, _REPLACES = 1, 2  # what `check` finds out: conditions that the store keeps
PROBE_PREFIX = b".fusecache-probe-"

_UPLOAD_ID = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_ETAG = re.compile(rb"<ETag>([^<]+)</ETag>")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a store calls things.

    Attributes:
        prefix: of its own headers: "x-amz-" or "x-oss-".
        uploads_query: starts an upload; S3 and OSS sign an empty value in different ways.
        forbids_overwrite: OSS: creates only what is not there, by a header of its own; it cannot compare versions.
    """

    prefix: str = "x-amz-"
    uploads_query: str = "uploads="
    forbids_overwrite: bool = False

    @property
    def metadata_prefix(self) -> str:
        return f"{self.prefix}meta-"


S3_DIALECT = Dialect()
OSS_DIALECT = Dialect("x-oss-", "uploads", forbids_overwrite=True)


class S3Writer:
    def __init__(
        self,
        client: S3RestClient,
        prefix: bytes,
        key_of: Callable[[bytes], bytes],
        stat_path: Callable[[bytes], Entry],
        dialect: Dialect,
        *,
        conditional: bool | None,
    ) -> None:
        """Args: `conditional`: whether the store compares versions itself; None: `check` finds out."""
        self._client = client
        self._prefix = prefix
        self._key = key_of
        self._stat = stat_path
        self._dialect = dialect
        self._checksums = UploadChecksums(
            sends_crc=client.settings.checksum_mode and dialect is S3_DIALECT, verify_etag=client.settings.verify_etag
        )
        self._conditional = conditional
        self._guards = (Guard.LATE_CHECK, Guard.LATE_CHECK)
        if conditional:
            self._guards = (Guard.STORE, Guard.LATE_CHECK if dialect.forbids_overwrite else Guard.STORE)

    @property
    def capabilities(self) -> WriteCapabilities:
        create, replace_ = self._guards
        return WriteCapabilities(
            create=create,
            replace=replace_,
            kept=Kept.MODE | Kept.OWNER | Kept.MTIME | Kept.XATTRS,
            least_part_bytes=LEAST_PART_BYTES,
            most_part_bytes=MOST_PART_BYTES,
            most_parts=MOST_PARTS,
            most_put_bytes=MOST_PART_BYTES,
            copies_parts=True,
        )

    def restore(self, found: int) -> None:
        self._guards = (
            Guard.STORE if found & _CREATES else Guard.LATE_CHECK,
            Guard.STORE if found & _REPLACES else Guard.LATE_CHECK,
        )

    def check(self) -> int:
        """Write, overwrite and delete a small object: which conditions the store keeps is seen by doing it."""
        key = self._prefix + PROBE_PREFIX + secrets.token_hex(8).encode()
        self._client.send("PUT", key, "", {}, BufferBody(b"probe"))
        try:
            if self._conditional is None:
                creates = self._is_refused(key, self._dialect_create())
                replaces = not self._dialect.forbids_overwrite and self._is_refused(key, {"if-match": f'"{"0" * 32}"'})
                self.restore(_CREATES * creates | _REPLACES * replaces)
        finally:
            self._client.send("DELETE", key, "", {})
        create, replace_ = self._guards
        return _CREATES * (create is Guard.STORE) | _REPLACES * (replace_ is Guard.STORE)

    def read_metadata(self, path: bytes, version: bytes) -> Metadata:
        headers = self._client.head(self._key(path))
        if version_of_etag(headers.get("etag", "")) != version:
            raise self._stale(path)
        found = metadata_of(self._dialect.metadata_prefix, headers)
        return found if found.mtime_ns is not None else replace(found, mtime_ns=_http_time_ns(headers.get("last-modified", "")))

    def put(self, path: bytes, body: Body, metadata: Metadata, expected: bytes | None, operation: str) -> Entry:
        checksum = self._checksums.headers(body)
        headers = {**self._described(metadata, operation), **checksum, **self._condition(expected)}
        try:
            self._check_late(path, expected)
            answer = self._client.send(
                "PUT", self._key(path), "", headers, body, lambda refusal: self._explain(path, expected, refusal)
            )
        except _Unexpected as error:
            return self._own_or_raise(path, operation, error)
        self._checksums.check(self._place(path), checksum, answer.headers, body)
        return self._entry(path, body.size, answer, metadata)

    def begin_upload(self, path: bytes, metadata: Metadata, expected: bytes | None, operation: str) -> Upload:
        headers = {**self._described(metadata, operation), **self._checksums.upload_headers}
        answer = self._client.send("POST", self._key(path), self._dialect.uploads_query, headers)
        match = _UPLOAD_ID.search(answer.body)
        if match is None:
            raise CacheError(ErrorKind.UNAVAILABLE, f"{self._place(path)}: the store began an upload and did not say its id")
        return Upload(path, unescape(match[1].decode()), operation, metadata)

    def put_part(self, upload: Upload, number: int, offset: int, body: Body) -> Part:
        checksum = self._checksums.headers(body)
        answer = self._send_part(upload, number, checksum, body)
        self._checksums.check(self._place(upload.path), checksum, answer.headers, body)
        etag = answer.headers.get("etag", "")
        if not etag:
            raise CacheError(ErrorKind.UNAVAILABLE, f"{self._place(upload.path)}: the store took a part and gave it no ETag")
        return Part(number, etag, body.size)

    def copy_part(self, upload: Upload, number: int, offset: int, size: int, path: bytes, version: bytes, start: int) -> Part:
        headers = {
            **self._copy_source(path, version),
            f"{self._dialect.prefix}copy-source-range": f"bytes={start}-{start + size - 1}",
        }
        answer = self._send_part(upload, number, headers, None, path)
        return Part(number, self._copied_etag(upload.path, answer), size)

    def complete(self, upload: Upload, parts: Sequence[Part], expected: bytes | None) -> Entry:
        path = upload.path
        rows = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.tag)}</ETag></Part>"
            for part in sorted(parts, key=lambda part: part.number)
        )
        body = BufferBody(f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode())
        headers = {"content-type": "application/xml", **self._condition(expected)}
        query = encode_query([("uploadId", upload.id.encode())])

        def explain(refusal: Refusal) -> CacheError | None:
            if refusal.code == "NoSuchUpload" or refusal.status == 404:
                gone = f"{self._place(path)}: the store has no such upload any more ({refusal.status} {refusal.code})"
                return _Unexpected(CacheError(ErrorKind.UNAVAILABLE, gone))
            return self._explain(path, expected, refusal)

        try:
            self._require(path, expected)  # some stores keep conditions of PUT, and not of this; an upload can afford a HEAD
            answer = self._client.send("POST", self._key(path), query, headers, body, explain)
        except _Unexpected as error:
            return self._own_or_raise(path, upload.operation, error)
        refused = self._client.refusal_in(answer)
        if refused is not None:
            raise refused
        return self._entry(path, sum(part.size for part in parts), answer, upload.metadata)

    def abort(self, upload: Upload) -> None:
        query = encode_query([("uploadId", upload.id.encode())])
        try:
            self._client.send("DELETE", self._key(upload.path), query, {})
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    def copy(
        self,
        path: bytes,
        version: bytes,
        target: bytes,
        metadata: Metadata | None,
        expected: bytes | None,
        operation: str,
        *,
        is_repeat: bool = False,
    ) -> Entry:
        try:
            return self._copy(path, version, target, metadata, expected, operation)
        except CacheError as error:
            own = self.own_version(target, [operation], "") if is_repeat and error.kind is ErrorKind.STALE else None
            if own is None:
                raise
            return own

    def _copy(
        self, path: bytes, version: bytes, target: bytes, metadata: Metadata | None, expected: bytes | None, operation: str
    ) -> Entry:
        kept = metadata if metadata is not None else self.read_metadata(path, version)
        found = self._stat(path)
        if found.version != version:  # some stores do not heed the condition of a copy
            raise self._stale(path)
        size = found.size
        if size > MOST_COPY_BYTES:
            return self._copy_in_parts(path, version, size, target, kept, expected, operation)
        if path != target:
            try:
                self._require(target, expected)
            except _Unexpected as error:
                return self._own_or_raise(target, operation, error)
        headers = {
            **self._copy_source(path, version),
            f"{self._dialect.prefix}metadata-directive": "REPLACE",
            **self._described(kept, operation),
        }
        answer = self._client.send("PUT", self._key(target), "", headers, None, lambda refusal: self._explain_copy(path, refusal))
        etag = self._copied_etag(target, answer)
        return self._entry(target, size, SmallAnswer({**answer.headers, "etag": etag}, b""), kept)

    def delete(self, path: bytes, expected: bytes | None) -> None:
        try:
            if expected is not None:
                self._require(path, expected)
            self._client.send("DELETE", self._key(path), "", {})
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND and not (isinstance(error, _Unexpected) and error.is_missing):
                raise

    def rename(self, path: bytes, target: bytes, expected: bytes | None) -> Entry:
        raise CacheError(ErrorKind.UNSUPPORTED, f"{self._client.settings.url}: a store of objects renames nothing")

    def make_directory(self, path: bytes, metadata: Metadata) -> Entry:
        headers = metadata_headers(self._dialect.metadata_prefix, metadata, stat.S_IFDIR)
        self._client.send("PUT", self._key(path) + b"/", "", {"content-type": "application/x-directory", **headers})
        return Entry(path.rpartition(b"/")[2], EntryKind.DIRECTORY)

    def remove_directory(self, path: bytes) -> None:
        directory = self._key(path) + b"/"
        listing = self._client.list_objects(directory, None, 2, delimiter=False)
        if any(one.key != directory for one in listing.objects):
            raise CacheError(ErrorKind.NOT_EMPTY, f"{self._place(path)} is not empty")
        self._client.send("DELETE", directory, "", {})

    def make_symlink(self, path: bytes, target: bytes) -> Entry:
        raise CacheError(ErrorKind.UNSUPPORTED, f"{self._client.settings.url}: a store of objects has no symbolic links")

    def set_directory_metadata(self, path: bytes, metadata: Metadata) -> Entry:
        return self.make_directory(path, metadata)

    # -- what stands in the requests

    def _described(self, metadata: Metadata, operation: str) -> dict[str, str]:
        prefix = self._dialect.metadata_prefix
        return {**metadata_headers(prefix, metadata), f"{prefix}{OPERATION}": operation}

    def _condition(self, expected: bytes | None) -> dict[str, str]:
        create, replace_ = self._guards
        if expected is None:
            return self._dialect_create() if create is Guard.STORE else {}
        condition = if_match_of_version(expected)
        return {"if-match": condition} if condition is not None and replace_ is Guard.STORE else {}

    def _dialect_create(self) -> dict[str, str]:
        return {"x-oss-forbid-overwrite": "true"} if self._dialect.forbids_overwrite else {"if-none-match": "*"}

    def _copy_source(self, path: bytes, version: bytes) -> dict[str, str]:
        prefix = self._dialect.prefix
        headers = {f"{prefix}copy-source": f"/{self._client.settings.bucket}/{encode_key(self._key(path))}"}
        condition = if_match_of_version(version)
        if condition is not None:
            headers[f"{prefix}copy-source-if-match"] = condition
        elif self._stat(path).version != version:
            raise self._stale(path)
        return headers

    def _send_part(
        self, upload: Upload, number: int, headers: dict[str, str], body: Body | None, copied: bytes | None = None
    ) -> SmallAnswer:
        query = encode_query([("partNumber", str(number).encode()), ("uploadId", upload.id.encode())])

        def explain(refusal: Refusal) -> CacheError | None:
            if refusal.code == "NoSuchUpload" or (refusal.status == 404 and copied is None):
                return CacheError(ErrorKind.STALE, f"{self._place(upload.path)}: the store has no such upload any more")
            return None if copied is None else self._explain_copy(copied, refusal)

        return self._client.send("PUT", self._key(upload.path), query, headers, body, explain)

    def _copy_in_parts(
        self, path: bytes, version: bytes, size: int, target: bytes, metadata: Metadata, expected: bytes | None, operation: str
    ) -> Entry:
        upload = self.begin_upload(target, metadata, expected, operation)
        try:
            step = max(COPY_PART_BYTES, -(-size // MOST_PARTS))
            parts = [
                self.copy_part(upload, number, start, min(step, size - start), path, version, start)
                for number, start in enumerate(range(0, size, step), start=1)
            ]
            return self.complete(upload, parts, expected)
        except CacheError:
            self.abort(upload)
            raise

    # -- what the answers say

    def _explain(self, path: bytes, expected: bytes | None, refusal: Refusal) -> CacheError | None:
        if refusal.status == 412 or refusal.code in ("FileAlreadyExists", "PreconditionFailed"):
            return _Unexpected(self._exists(path) if expected is None else self._stale(path))
        if refusal.status == 404 and expected is not None and refusal.code != "NoSuchBucket":
            return _Unexpected(self._stale(path))
        if refusal.status == 409 and refusal.code in ("ConditionalRequestConflict", "OperationAborted"):
            return CacheError(ErrorKind.UNAVAILABLE, f"{self._place(path)}: somebody else is writing it: asked again")
        if refusal.code in ("QuotaExceeded", "XMinioStorageFull", "EntityTooLarge") or refusal.status == 507:
            return CacheError(ErrorKind.NO_SPACE, f"{self._place(path)}: the store has no room ({refusal.status} {refusal.code})")
        return None

    def _explain_copy(self, path: bytes, refusal: Refusal) -> CacheError | None:
        if refusal.status in (404, 412) and refusal.code != "NoSuchBucket":
            return self._stale(path)
        return None

    def _copied_etag(self, path: bytes, answer: SmallAnswer) -> str:
        refused = self._client.refusal_in(answer)
        if refused is not None:
            raise refused
        match = _ETAG.search(answer.body)
        if match is None:
            raise CacheError(ErrorKind.UNAVAILABLE, f"{self._place(path)}: the store copied and did not say what: asked again")
        return unescape(match[1].decode(), {"&quot;": '"', "&#34;": '"'})

    def _entry(self, path: bytes, size: int, answer: SmallAnswer, metadata: Metadata) -> Entry:
        etag = answer.headers.get("etag", "")
        if not etag and (match := _ETAG.search(answer.body)) is not None:
            etag = unescape(match[1].decode(), {"&quot;": '"', "&#34;": '"'})
        version = version_of_etag(etag if etag.startswith('"') else f'"{etag}"')
        if not version:
            version = version_of_etag(self._client.head(self._key(path)).get("etag", ""))
        mtime_ns = metadata.mtime_ns if metadata.mtime_ns is not None else _http_time_ns(answer.headers.get("date", "")) or 0
        return Entry(path.rpartition(b"/")[2], EntryKind.FILE, size, mtime_ns, version)

    # -- what is there

    def _check_late(self, path: bytes, expected: bytes | None) -> None:
        """Compare with what is there now, where the store does not."""
        guard = self._guards[0 if expected is None else 1]
        is_hashed = expected is not None and if_match_of_version(expected) is None
        if guard is Guard.LATE_CHECK or is_hashed:
            self._require(path, expected)

    def _require(self, path: bytes, expected: bytes | None) -> None:
        try:
            found = self._client.head(self._key(path))
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            if expected is not None:
                raise _Unexpected(self._stale(path), is_missing=True) from None
            return
        if expected is None:
            raise _Unexpected(self._exists(path))
        if version_of_etag(found.get("etag", "")) != expected:
            raise _Unexpected(self._stale(path))

    def own_version(self, path: bytes, operations: Sequence[str], upload_id: str) -> Entry | None:
        try:
            headers = self._client.head(self._key(path))
        except CacheError as missing:
            if missing.kind is not ErrorKind.NOT_FOUND:
                raise
            return None
        if not headers.get(f"{self._dialect.metadata_prefix}{OPERATION}", "").startswith(tuple(operations)):
            return None
        made = metadata_of(self._dialect.metadata_prefix, headers)
        modified = {"date": headers.get("last-modified", ""), "etag": headers.get("etag", "")}
        return self._entry(path, int(headers.get("content-length", "0")), SmallAnswer(modified, b""), made)

    def _own_or_raise(self, path: bytes, operation: str, error: _Unexpected) -> Entry:
        """What is there may be what this very operation made, before its answer was lost."""
        own = self.own_version(path, [operation], "")
        if own is None:
            raise error
        return own

    def _is_refused(self, key: bytes, condition: Mapping[str, str]) -> bool:
        refused: list[Refusal] = []

        def explain(refusal: Refusal) -> CacheError | None:
            if refusal.status in (409, 412):
                refused.append(refusal)
                return CacheError(ErrorKind.EXISTS, "as it should be")
            if refusal.status == 501:
                return CacheError(ErrorKind.UNSUPPORTED, "no conditions")
            return None

        try:
            self._client.send("PUT", key, "", dict(condition), BufferBody(b"probe"), explain)
        except CacheError as error:
            if error.kind not in (ErrorKind.EXISTS, ErrorKind.UNSUPPORTED):
                raise
        return bool(refused)

    def _place(self, path: bytes) -> str:
        return f"{self._client.settings.url} (object {self._key(path)!r})"

    def _exists(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.EXISTS, f"{self._place(path)} is there already")

    def _stale(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.STALE, f"{self._place(path)} was replaced or deleted in the store meanwhile")


class _Unexpected(CacheError):
    """Something else is there than was expected, perhaps by our own hand."""

    def __init__(self, error: CacheError, *, is_missing: bool = False) -> None:
        super().__init__(error.kind, str(error))
        self.is_missing = is_missing


def _http_time_ns(text: str) -> int | None:
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        return None
