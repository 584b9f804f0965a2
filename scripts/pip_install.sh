#!/usr/bin/env bash
# Installs into .venv, with its pip or, if uv made it without one, with uv. No build isolation: what builds is locked too.
set -euo pipefail
cd "$(dirname "$0")/.."

if .venv/bin/python -c 'import pip' 2>/dev/null; then
    exec .venv/bin/python -m pip --disable-pip-version-check install --quiet --use-pep517 --no-build-isolation "$@"
fi
exec uv pip install --quiet --python .venv/bin/python --no-build-isolation "$@"
