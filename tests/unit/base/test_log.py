"""Log lines: no secret by value, no forged line, no escape sequence."""

from __future__ import annotations

import logging

from fusecache.base import log


def formatted(message: str) -> str:
    record = logging.LogRecord("n", logging.INFO, "f", 1, message, (), None)
    return log._Formatter("%(message)s").format(record)


def test_a_registered_secret_never_appears() -> None:
    log.register_secret("hunter2-canary")
    assert formatted("the key is hunter2-canary, is it?") == "the key is ***, is it?"


def test_short_values_are_not_masked_since_they_would_mask_words() -> None:
    log.register_secret("key")
    assert formatted("the key") == "the key"


def test_control_characters_are_escaped() -> None:
    assert formatted("a\x1b[31mred\x00") == r"a\x1b[31mred\x00"
