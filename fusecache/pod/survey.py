"""`python -m fusecache.pod.survey`: asks the sources of a Dataset that no cache pod serves how much there is.

`python -m fusecache.fetch.survey` does; its output is written to the container's termination log as well, where the operator
reads it. Configuration and credentials lie where cache pods have theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys

from fusecache.contract.errors import CacheError
from fusecache.contract.exit_status import exit_status_of
from fusecache.pod.arguments import Arguments, parse
from fusecache.pod.dataset_config import load

TERMINATION_LOG = "/dev/termination-log"
MODULE = "fusecache.fetch.survey"
_SPEC = "/tmp/spec.json"
_MAX_BYTES = 4000  # Kubernetes keeps 4096


def main() -> int:
    return run(parse(sys.argv[1:]))


def run(arguments: Arguments, spec: str = _SPEC, log: str = TERMINATION_LOG) -> int:
    """Return the exit status. What is found, or what is wrong, is the content of `log`."""
    try:
        config = load(arguments)
        if missing := config.missing_secrets:
            return _say(log, f"{missing[0]} is missing: put that key into the Secret with the Dataset's credentials", 4)
        with open(spec, "w", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
            file.write(config.spec.to_json())
    except CacheError as error:
        return _say(log, str(error), exit_status_of(error.kind))
    done = subprocess.run([sys.executable, "-P", "-m", MODULE, spec], capture_output=True, text=True)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return _say(log, lines[-1] if lines else f"the survey ended with {done.returncode}", done.returncode)


def _say(log: str, text: str, status: int) -> int:
    sys.stdout.write(f"{text}\n")
    with open(log, "w") as file:
        file.write(text[:_MAX_BYTES])
    return status


if __name__ == "__main__":
    sys.exit(main())
