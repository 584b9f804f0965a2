"""Calls to the API server: counted, and one kind of error where it cannot be reached. Stateless."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from httpx2 import HTTPStatusError, TransportError
from lightkube import ApiError

NoteCall = Callable[[str, str], None]  # verb, resource


def note_nothing(verb: str, resource: str) -> None:
    """For who counts no calls."""


@contextlib.contextmanager
def reaching(note: NoteCall, verb: str, resource: str) -> Iterator[None]:
    """Raises: ApiError; ConnectionError instead of what the library raises when the connection fails, whatever that is, and when
    somebody on the way answers instead of the API server."""
    note(verb, resource)
    try:
        yield
    except TransportError as error:
        raise ConnectionError(f"the API server cannot be reached: {error!r}") from error
    except HTTPStatusError as error:
        if isinstance(error, ApiError):
            raise
        raise ConnectionError(f"the API server is not what answers: {error}") from error
