#!/usr/bin/env bash
# Runs the tests; called by `make test`. With arguments: those, as pytest gets them. Without: everything that needs no cluster,
# with a process for each core (four at most), but the bad days of tests/stress one after the other, as they measure how long
# readers wait. Both parts run, whatever the first one finds.
set -uo pipefail
cd "$(dirname "$0")/.."

if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
processes=$(nproc)
[ "$processes" -le 4 ] || processes=4
status=0
.venv/bin/python -m pytest -n "$processes" --dist worksteal --ignore=tests/stress || status=$?
.venv/bin/python -m pytest tests/stress || status=$?
exit "$status"
