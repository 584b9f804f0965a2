"""Catches WARNING and worse from every logger, and tells what was declared from what was not.

Owns the records of one test; installed on the root logger by the guard of tests/conftest.py. Any thread may log.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field


@dataclass(slots=True)
class Expectation:
    """A declared message: `pattern` is searched in the formatted text. `matched` counts what it excused."""

    pattern: str
    level: int
    at_least: int
    matched: int = 0


@dataclass(slots=True)
class LogCheck:
    """Every record is either excused by an expectation or reported; an expectation short of its records is reported too.

    An expectation counts from the start of the test, whenever it was declared.
    """

    records: list[logging.LogRecord] = field(default_factory=list)
    expectations: list[Expectation] = field(default_factory=list)

    def __call__(self, pattern: str, *, level: int = logging.WARNING, at_least: int = 1) -> None:
        """Declare messages that match `pattern` (a regular expression), up to `level`; at least `at_least` must come."""
        self.expectations.append(Expectation(pattern, level, at_least))

    def complaints(self) -> list[str]:
        found = []
        for record in self.records:
            text = record.getMessage()
            excuses = [e for e in self.expectations if record.levelno <= e.level and re.search(e.pattern, text)]
            for expectation in excuses:
                expectation.matched += 1
            if not excuses:
                found.append(f"unexpected log message: {record.levelname} {record.name}: {text}")
        found += [f"expected log message did not come: {e.pattern}" for e in self.expectations if e.matched < e.at_least]
        return found


class RecordingHandler(logging.Handler):
    """Appends to a LogCheck (list.append is atomic, so any thread may log)."""

    def __init__(self, check: LogCheck) -> None:
        super().__init__(logging.WARNING)
        self._check = check

    def emit(self, record: logging.LogRecord) -> None:
        self._check.records.append(record)
