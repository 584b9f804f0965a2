"""`python -m fusecache.pod`: see program.py. Options for tests: arguments.py.

The supervisor is started before anything else is imported: it and its daemons, which are up to a second of imports, come up while
we read the configuration, and wait beside us if another pod still has the cache.
"""

from __future__ import annotations

import os
import signal
import sys

from fusecache.base.hardening import harden_process
from fusecache.pod.arguments import parse
from fusecache.pod.early import EarlyError, EarlySupervisor


def main() -> int:
    # As the first process of a container we would not even notice a SIGTERM that nobody catches.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    arguments = parse(sys.argv[1:], os.environ)
    harden_process()
    os.umask(0o077)
    try:
        early = EarlySupervisor(arguments, os.environ)
    except EarlyError as error:
        sys.stderr.write(f"fusecache: {error}\n")
        return error.status
    from fusecache.pod.program import run

    return run(arguments, early)


if __name__ == "__main__":
    sys.exit(main())
