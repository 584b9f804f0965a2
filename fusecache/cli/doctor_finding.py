"""What a check of `fusecache doctor` found.

Stateless.
"""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        check: what was looked at; constant, for scripts.
        level: OK; WARN: works, but slower or less safe; FAIL: does not work.
        message: what was found.
        cure: what to do about it; "" where the level is OK.
    """

    check: str
    level: str
    message: str
    cure: str = ""
