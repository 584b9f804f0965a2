#!/usr/bin/env bash
# Prints the Python to build .venv with: 3.11 or newer, the system's own if it will do (every user can read that one).
# Called by the Makefile when PYTHON is not given; prints nothing if there is none.
set -u

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
can_make_venv() { command -v uv >/dev/null || "$1" -c 'import ensurepip, venv' 2>/dev/null; }

fallback=""
for python in /usr/bin/python3 "$(command -v python3)" python3.13 python3.12 python3.11; do
    python=$(command -v "$python") || continue
    recent "$python" || continue
    if can_make_venv "$python"; then
        echo "$python"
        exit 0
    fi
    [ -n "$fallback" ] || fallback=$python
done
echo "$fallback"
