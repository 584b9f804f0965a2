"""The token of a Dataset's cache pods, as it is in its file now: kubelet may replace it. Stateless."""

from __future__ import annotations

MAX_BYTES = 4096


def read_token(path: str) -> bytes:
    """Return the token, b"" if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES).strip()
    except OSError:
        return b""
