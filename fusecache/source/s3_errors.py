"""Turns a refusal of an S3-speaking store into the kind of error and the sentence that lead to its cure.

Holds no state; called by the clients of object stores from any thread. Error codes:
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (OSS uses the same names for the same things).
"""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import Credential

_FIELD = re.compile(r"<(Code|Message|Region|Endpoint)>([^<]{0,500})</")
MAX_RETRY_AFTER_SECONDS = 300.0  # a store that asks for more is asked again after this

THROTTLING = (429, 503)  # statuses of a store that is asked too much

_WRONG_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect")
_THROTTLED = ("SlowDown", "SlowDownRead", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
              "QpsLimitExceeded", "DownloadTrafficRateLimitExceeded", "Busy")  # fmt: skip
_EXPIRED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidSecurityToken", "SecurityTokenExpired")
_UNKNOWN_KEY = ("InvalidAccessKeyId", "InvalidClientTokenId", "NotSignedUp")
_WRONG_SECRET = ("SignatureDoesNotMatch", "InvalidSignature")
_SKEWED = ("RequestTimeTooSkewed", "RequestExpired")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not a success: what of it matters for the error."""

    status: int
    headers: Mapping[str, str]
    code: str = ""
    message: str = ""
    region: str = ""


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Pick code, message and region out of an error document, whatever else it is. A HEAD has no body and so no code."""
    found = dict(_FIELD.findall(body[:65536].decode("utf-8", "replace")))
    region = headers.get("x-amz-bucket-region") or found.get("Region", "")
    return Refusal(status, headers, found.get("Code", ""), found.get("Message", ""), region)


def is_wrong_region(refusal: Refusal) -> bool:
    return bool(refusal.region) and (refusal.code in _WRONG_REGION or refusal.status in (301, 307, 400))


def may_be_old_credential(error: CacheError) -> bool:
    """True if other keys could make a difference."""
    return error.kind is ErrorKind.DENIED


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked whom for what: the material of a message."""

    url: str
    origin: str
    credential: Credential | None
    key_names: tuple[str, str] = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    is_listing: bool = False


def refusal_error(asked: Asked, refusal: Refusal) -> CacheError:
    """Return the error to raise for a refusal. 404 and 412 of reads are the caller's to call STALE."""
    status, code = refusal.status, refusal.code
    what = f"{asked.url}: the store at {asked.origin}"
    if code in _THROTTLED or status == 429 or status >= 500:
        if status == 501 or code == "NotImplemented":
            return CacheError(ErrorKind.UNSUPPORTED, f"{what} cannot do what was asked ({_said(refusal)}): use another store")
        return CacheError(
            ErrorKind.UNAVAILABLE, f"{what} is overloaded or failing ({_said(refusal)}): it is asked again",
            retry_after_seconds=retry_after_seconds(refusal.headers), is_throttled=code in _THROTTLED or status in THROTTLING,
        )  # fmt: skip
    if code == "RequestTimeout" or status == 408:
        return CacheError(ErrorKind.UNAVAILABLE, f"{what} lost patience with the request ({_said(refusal)}): it is asked again")
    denied = _denied(asked, refusal)
    if denied is not None:
        return CacheError(ErrorKind.DENIED, f"{what} {denied}")
    if code == "NoSuchBucket":
        return CacheError(ErrorKind.NOT_FOUND, f"{what} has no such bucket: check its name, the endpoint and the region")
    if status == 404 and asked.is_listing:
        return CacheError(
            ErrorKind.NOT_FOUND, f"{what} has nothing to list ({_said(refusal)}): is endpoint_url that of an S3 store?"
        )
    if status == 404:
        return CacheError(ErrorKind.NOT_FOUND, f"{asked.url}: there is no such object at {asked.origin}: check the name")
    if 300 <= status < 400 or code in _WRONG_REGION:
        where = f"it names the region {refusal.region!r}: set -o region=" if refusal.region else "check endpoint_url and region"
        return CacheError(ErrorKind.INVALID, f"{what} sends us elsewhere ({_said(refusal)}), {where}")
    return CacheError(ErrorKind.INVALID, f"{what} refuses the request ({_said(refusal)}): check bucket name and options")


def _denied(asked: Asked, refusal: Refusal) -> str | None:
    code = refusal.code
    key = asked.credential.access_key if asked.credential else ""
    access_name, secret_name = asked.key_names
    if code in _UNKNOWN_KEY:
        return f"does not know the access key {key}: check {access_name} or -o access_key_file="
    if code in _WRONG_SECRET:
        return f"got a signature that does not fit the access key {key}: check {secret_name} or -o secret_key_file="
    if code in _EXPIRED:
        return f"says that the session token of access key {key} has expired or is wrong: get a new one (session_token_file=)"
    if code in _SKEWED:
        return (
            f"sees {_clock_difference(refusal.headers)} between its clock and ours: set the clock of this machine (chrony, ntp)"
        )
    if code == "InvalidObjectState":
        return "holds the object in an archive: restore it there first"
    if refusal.status not in (401, 403):
        return None
    if asked.credential is None:
        return f"does not let anonymous readers in ({_said(refusal)}): set {access_name} or -o access_key_file="
    return f"denies the access key {key} this request ({_said(refusal)}): grant it s3:ListBucket and s3:GetObject"


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header (a number or a date), bounded, None where there is none."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if seconds == seconds else None


def _clock_difference(headers: Mapping[str, str]) -> str:
    try:
        there = email.utils.parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return "too large a difference"
    return f"{abs((datetime.datetime.now(datetime.UTC) - there).total_seconds()):.0f} s"


def _said(refusal: Refusal) -> str:
    return f"{refusal.status} {refusal.code}".strip()
