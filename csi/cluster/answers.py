"""What the API server answers, and that it does not answer, as ends of calls. Stateless."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc
from httpx2 import TransportError
from lightkube import ApiError

from csi.errors import RpcError, aborted, refused

_CONFLICT = 409
_FINAL = frozenset({400, 401, 403, 404, 405, 422})  # what asking again does not mend


@contextlib.contextmanager
def answers() -> Iterator[None]:
    """Raises: RpcError: ABORTED for a conflict, FAILED_PRECONDITION for a refusal, UNAVAILABLE."""
    try:
        yield
    except ApiError as error:
        message = f"the API server says: {error.status.message}"[:1000]
        if error.status.code == _CONFLICT:
            raise aborted(message) from error
        if error.status.code in _FINAL:
            raise refused(message) from error
        raise RpcError(grpc.StatusCode.UNAVAILABLE, message) from error
    except (TransportError, ConnectionError) as error:
        raise RpcError(grpc.StatusCode.UNAVAILABLE, f"the API server cannot be reached: {error!r}") from error
