#!/usr/bin/env bash
# Resolves pyproject.toml into the lock files: Linux, every supported Python, hashes for every file, no index URL.
# Called by `make lock`. A lock already there keeps its versions unless UPGRADE=1.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$(command -v uv || true)
[ -n "$uv" ] || { [ -x .venv/bin/uv ] && uv=.venv/bin/uv; } || { echo "make lock needs uv: install it with 'pip install uv' or see https://docs.astral.sh/uv" >&2; exit 1; }

compile() { # compile LOCK ARGUMENT...: one lock file
    local lock=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" ${UPGRADE:+--upgrade} --output-file "$lock" "$@"
}

# Each lock is constrained by those before it, so that one environment can hold them all.
compile requirements-build.lock --group pyproject.toml:build
compile requirements.lock --extra kubernetes pyproject.toml -c requirements-build.lock
compile requirements-dev.lock --extra kubernetes pyproject.toml --group pyproject.toml:dev -c requirements-build.lock -c requirements.lock
compile requirements-pyfuse3.lock --extra pyfuse3 pyproject.toml -c requirements-build.lock -c requirements-dev.lock
compile requirements-bench.lock --group pyproject.toml:bench -c requirements-dev.lock
compile requirements-cluster.lock --group pyproject.toml:cluster -c requirements-dev.lock
