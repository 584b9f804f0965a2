"""A small OSS in this process that is written to as well: puts, copies, uploads in parts, deletes, with the conditions that OSS
has and without those that it has not (it compares no version on PUT).

Signatures are computed anew by the SDK of OSS, which is another implementation than ours, for every request whose key it can
spell. Rules: https://www.alibabacloud.com/help/en/oss/developer-reference/list-of-operations-by-function
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

from oss2.auth import Auth, AuthV4

from tests.support.fake_object_store import Answer, FakeObjectStore, Request, error_answer, etag_of, xml_answer

ACCESS_KEY, SECRET_KEY, REGION = "LTAIwriter", "secret-of-the-writer", "cn-hangzhou"
LEAST_PART_BYTES = 100 << 10
_META = "x-oss-meta-"
_KEPT = (_META, "content-type")


@dataclass(slots=True)
class _Upload:
    key: bytes
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


class FakeOss(FakeObjectStore):
    """`dialect`: oss-v1 or oss-v4. Attributes: `uploads` are those that were begun and not ended."""

    def __init__(self, dialect: str) -> None:
        super().__init__(dialect)
        self.secret_key = SECRET_KEY
        self.metadata: dict[bytes, dict[str, str]] = {}
        self.uploads: dict[str, _Upload] = {}
        self._lock = threading.Lock()

    def refuse(self, request: Request) -> Answer | None:
        refused = super().refuse(request)
        if refused is None and not self._is_signed_right(request):
            return error_answer(403, "SignatureDoesNotMatch", "the SDK signs this in another way")
        return refused

    def _is_signed_right(self, request: Request) -> bool:
        try:
            key = (request.key or b"").decode()
            params = {name: value.decode() for name, value in request.query.items()}
        except UnicodeDecodeError:
            return True  # the SDK has text only
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        asked: Any = SimpleNamespace(
            method=request.method, headers=headers, params=params, region=REGION, product="oss", cloudbox_id=None
        )
        said = request.headers["authorization"]
        if self.dialect == "oss-v1":
            auth: Any = Auth(ACCESS_KEY, self.secret_key)
            wanted = auth._ProviderAuth__make_signature(asked, request.bucket, key, auth.credentials_provider.get_credentials())
            return bool(said.endswith(f":{wanted}"))
        auth = AuthV4(ACCESS_KEY, self.secret_key)
        wanted = auth._ProviderAuthV4__make_signature(
            asked, request.bucket, key, None, auth.credentials_provider.get_credentials(), headers["x-oss-date"]
        )
        return bool(said.endswith(f"Signature={wanted}"))

    # -- requests

    def serve(self, request: Request) -> Answer:
        key = request.key
        with self._lock:
            if key is None or request.method in ("GET", "HEAD"):
                answer = super().serve(request)
                if key is not None and answer.status in (200, 206):
                    answer.headers.update(self.metadata.get(key, {}))
                return answer
            upload_id = request.query.get("uploadId", b"").decode()
            if request.method == "POST":
                return self._complete(key, upload_id, request) if upload_id else self._begin(key, request)
            if request.method == "DELETE":
                return self._abort(upload_id) if upload_id else self._delete(key)
            return self._put_part(upload_id, request) if upload_id else self._put(key, request)

    def _put(self, key: bytes, request: Request) -> Answer:
        refused = self._forbids(key, request) or self._digest_is_wrong(request)
        if refused is not None:
            return refused
        if "x-oss-copy-source" not in request.headers:
            self._store(key, request.body, etag_of(request.body), request.headers)
            return Answer(200, {"etag": self.etags[key], "content-length": "0"})
        source = self._source(request)
        if isinstance(source, Answer):
            return source
        replaces = request.headers.get("x-oss-metadata-directive") == "REPLACE"
        self._store(key, self.objects[source], self.etags[source], request.headers if replaces else self.metadata[source])
        etag = self.etags[key]
        return xml_answer(f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>")

    def _begin(self, key: bytes, request: Request) -> Answer:
        if "uploads" not in request.query:
            return error_answer(400, "InvalidArgument", "no such POST")
        number = secrets.token_hex(16).upper()
        self.uploads[number] = _Upload(key, _kept(request.headers))
        return xml_answer(f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>")

    def _put_part(self, upload_id: str, request: Request) -> Answer:
        upload = self.uploads.get(upload_id)
        if upload is None:
            return error_answer(404, "NoSuchUpload", "no such upload")
        body: bytes = request.body
        copied = "x-oss-copy-source" in request.headers
        if copied:
            source = self._source(request)
            if isinstance(source, Answer):
                return source
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["x-oss-copy-source-range"])
            if match is None or int(match[2]) >= len(self.objects[source]):
                return error_answer(400, "InvalidArgument", "no such range")
            body = self.objects[source][int(match[1]) : int(match[2]) + 1]
        elif (refused := self._digest_is_wrong(request)) is not None:
            return refused
        upload.parts[int(request.query["partNumber"])] = body
        etag = etag_of(body)
        if copied:
            return xml_answer(f"<CopyPartResult><ETag>{etag}</ETag></CopyPartResult>")
        return Answer(200, {"etag": etag, "content-length": "0"})

    def _complete(self, key: bytes, upload_id: str, request: Request) -> Answer:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            return error_answer(404, "NoSuchUpload", "no such upload")
        refused = self._forbids(key, request)
        if refused is not None:
            return refused
        rows = re.findall(rb"<PartNumber>(\d+)</PartNumber><ETag>([^<]+)</ETag>", request.body)
        numbers = [int(number) for number, _ in rows]
        if numbers != sorted(set(numbers)):
            return error_answer(400, "InvalidPartOrder", "parts in another order")
        for number, etag in rows:
            part = upload.parts.get(int(number))
            if part is None or etag_of(part).strip('"') != etag.decode().replace("&quot;", "").strip('"'):
                return error_answer(400, "InvalidPart", f"part {int(number)} is another one")
        bodies = [upload.parts[number] for number in numbers]
        if any(len(body) < LEAST_PART_BYTES for body in bodies[:-1]):
            return error_answer(400, "EntityTooSmall", "a part is too small")
        digest = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest().upper()
        self._store(key, b"".join(bodies), f'"{digest}-{len(bodies)}"', upload.headers)
        del self.uploads[upload_id]
        return xml_answer(f"<CompleteMultipartUploadResult><ETag>{self.etags[key]}</ETag></CompleteMultipartUploadResult>")

    def _abort(self, upload_id: str) -> Answer:
        if self.uploads.pop(upload_id, None) is None:
            return error_answer(404, "NoSuchUpload", "no such upload")
        return Answer(204, {"content-length": "0"})

    def _delete(self, key: bytes) -> Answer:
        for table in (self.objects, self.etags, self.metadata):
            table.pop(key, None)
        return Answer(204, {"content-length": "0"})

    # -- what they have in common

    def _forbids(self, key: bytes, request: Request) -> Answer | None:
        if request.headers.get("x-oss-forbid-overwrite") == "true" and key in self.objects:
            return error_answer(409, "FileAlreadyExists", "the object exists, and must not be overwritten")
        return None

    def _digest_is_wrong(self, request: Request) -> Answer | None:
        wanted = request.headers.get("content-md5")
        if wanted is not None and wanted != base64.b64encode(hashlib.md5(request.body).digest()).decode():
            return error_answer(400, "InvalidDigest", "other bytes arrived")
        return None

    def _source(self, request: Request) -> bytes | Answer:
        bucket, _, key = unquote_to_bytes(request.headers["x-oss-copy-source"].lstrip("/")).partition(b"/")
        if bucket.decode() != self.bucket or key not in self.objects:
            return error_answer(404, "NoSuchKey", "no such source")
        etag = self.etags[key]
        if request.headers.get("x-oss-copy-source-if-match", etag).strip('"').upper() != etag.strip('"').upper():
            return error_answer(412, "PreconditionFailed", "the source was replaced")
        return key

    def _store(self, key: bytes, body: bytes, etag: str, headers: dict[str, str]) -> None:
        self.objects[key], self.etags[key], self.metadata[key] = body, etag, _kept(headers)


def _kept(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith(_KEPT)}
