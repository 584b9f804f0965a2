"""Logging of every process: one line a record, control characters escaped, registered secrets masked by value."""

from __future__ import annotations

import json
import logging
import sys
import threading

_secrets: set[str] = set()
_lock = threading.Lock()
MIN_SECRET_LENGTH = 6  # shorter values would mask ordinary words


def register_secret(value: str) -> None:
    """From now on this value never appears in a log line of this process, wherever it came from."""
    if len(value) >= MIN_SECRET_LENGTH:
        with _lock:
            _secrets.add(value)


def mask_secrets(text: str) -> str:
    for secret in tuple(_secrets):
        if secret in text:
            text = text.replace(secret, "***")
    return text


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = mask_secrets(super().format(record))
        # A newline or an escape sequence in an object's name must not forge a line or colour a terminal.
        return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class _JsonFormatter(logging.Formatter):
    """One object a line: time, level, role, pid, logger, message, and the fields of `extra={"fields": {...}}`."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        what = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname,
            "role": self._role,
            "pid": record.process,
            "logger": record.name,
            "message": mask_secrets(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            what["exception"] = mask_secrets(self.formatException(record.exc_info))
        return json.dumps(what)


def configure(role: str, level: str = "INFO", style: str = "text") -> None:
    """Log to stderr, as `time level role[pid] module: message` or ("json") an object a line. Called once, in main."""
    handler = logging.StreamHandler(sys.stderr)
    text = _Formatter(f"%(asctime)s %(levelname)s {role}[%(process)d] %(name)s: %(message)s")
    handler.setFormatter(_JsonFormatter(role) if style == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("botocore", "grpc", "urllib3", "aiobotocore", "s3fs", "fsspec", "asyncio", "ossfs"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
