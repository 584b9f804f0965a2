"""How a call fails: a gRPC code with one sentence of cause and cure."""

from __future__ import annotations

import grpc

from fusecache.contract.errors import ANSWERS, CacheError


class RpcError(Exception):
    """Ends a call with this code; the message is for the person who reads the event of the pod."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def of(cls, error: CacheError) -> RpcError:
        return cls(grpc.StatusCode[ANSWERS[error.kind].grpc_status], str(error))


def invalid(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.NOT_FOUND, message)


def exists(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.ALREADY_EXISTS, message)


def refused(message: str) -> RpcError:
    """The state of something else does not allow it."""
    return RpcError(grpc.StatusCode.FAILED_PRECONDITION, message)


def out_of_range(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.OUT_OF_RANGE, message)


def aborted(message: str) -> RpcError:
    """Another call is at work; the same call may be made again later."""
    return RpcError(grpc.StatusCode.ABORTED, message)
