"""Where the console script enters: `fusecache mount` starts its supervisor first, then the command line is imported. No state."""

from __future__ import annotations

import sys
from typing import NoReturn

from fusecache.cli import early_supervisor


def main() -> NoReturn:
    """Run the command line and exit."""
    early_supervisor.begin(sys.argv[1:])
    try:
        from fusecache.cli.commands import run  # only now: meanwhile the supervisor and its children are imported

        status = run(sys.argv[1:])
    finally:
        early_supervisor.abandon()
    sys.exit(status)
