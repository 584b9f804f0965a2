"""The error table has a row for each kind, and the rows say what docs and callers rely on."""

from __future__ import annotations

import errno

import pytest

from fusecache.contract.errors import ANSWERS, CacheError, ErrorKind, Retry

# Status names of gRPC (https://grpc.io/docs/guides/status-codes/).
GRPC_STATUSES = {
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
}

# Values travel between processes of different versions: this list only grows.
VALUES = {
    "INVALID": 1,
    "NOT_FOUND": 2,
    "EXISTS": 3,
    "DENIED": 4,
    "READ_ONLY": 5,
    "UNSUPPORTED": 6,
    "UNAVAILABLE": 7,
    "TIMEOUT": 8,
    "BUSY": 9,
    "NO_SPACE": 10,
    "STALE": 11,
    "CORRUPT": 12,
    "BUG": 13,
    "NOT_A_DIRECTORY": 14,
    "IS_A_DIRECTORY": 15,
    "NAME_TOO_LONG": 16,
    "NO_ATTRIBUTE": 17,
    "INTERRUPTED": 18,
    "NOT_EMPTY": 19,
    "NOT_PERMITTED": 20,
    "CROSS_DEVICE": 21,
}


@pytest.mark.parametrize("kind", ErrorKind)
def test_each_kind_has_a_valid_row(kind: ErrorKind) -> None:
    answer = ANSWERS[kind]
    assert answer.errno in errno.errorcode
    assert answer.grpc_status in GRPC_STATUSES
    assert isinstance(answer.retry, Retry)


@pytest.mark.parametrize("kind", ErrorKind)
def test_no_kind_answers_enosys(kind: ErrorKind) -> None:
    """ENOSYS tells the kernel never to ask again: it is sent on purpose only, never for an error."""
    assert ANSWERS[kind].errno != errno.ENOSYS


def test_values_never_change() -> None:
    assert {kind.name: int(kind) for kind in ErrorKind} == VALUES


def test_values_fit_the_status_byte_of_an_answer() -> None:
    """0 means OK and 255 bounce in the miss protocol."""
    assert all(0 < kind < 255 for kind in ErrorKind)


def test_error_carries_message_row_and_wish_of_the_store() -> None:
    error = CacheError(ErrorKind.UNAVAILABLE, "the store throttles; wait", retry_after_seconds=1.5)
    assert (str(error), error.errno, error.is_retryable, error.retry_after_seconds) == (
        "the store throttles; wait",
        errno.EIO,
        True,
        1.5,
    )


@pytest.mark.parametrize("kind", [ErrorKind.STALE, ErrorKind.CORRUPT, ErrorKind.NOT_FOUND, ErrorKind.BUG])
def test_only_plain_retries_are_retryable(kind: ErrorKind) -> None:
    assert not CacheError(kind, "x").is_retryable
