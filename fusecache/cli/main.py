"""Where the console script enters: `fusecache mount` starts its supervisor first, then the command line is imported. No state.

Imports are in the function, so that Ctrl-C during them ends in one line as it does later.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        status = _run(sys.argv[1:])
    except KeyboardInterrupt:  # before the command line itself could catch it
        print("fusecache: interrupted", file=sys.stderr)
        status = 130  # ExitStatus.INTERRUPTED, which may be what was being imported
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    from fusecache.cli import early_supervisor

    early_supervisor.begin(arguments)
    try:
        from fusecache.cli.commands import run  # only now: meanwhile the supervisor and its children are imported

        return run(arguments)
    finally:
        early_supervisor.abandon()
