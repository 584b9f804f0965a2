#!/usr/bin/env bash
# Makes .venv from the lock files and puts this checkout into it. Called by `make venv` with the Python to use; may be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-}

fail() {
    echo "make venv: $1" >&2
    exit 1
}

[ -n "$python" ] || fail "no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than Python 3.11; name another: make PYTHON=/path/to/python3 ..."

# 1. The environment, unless a working one is there.
if ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv .venv
    elif command -v uv >/dev/null; then
        uv venv --quiet --python "$python" .venv
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        scripts/apt_install.sh python3-venv
        "$python" -m venv .venv
    else
        fail "$python cannot make virtual environments: run 'sudo apt install python3-venv' (Debian, Ubuntu) and try again"
    fi
fi

# 2. What is locked, by hash. The build tools come first, as two dependencies are published as source (pure Python; no compiler is needed).
echo "Installing the locked dependencies into .venv ..."
scripts/pip_install.sh --require-hashes --only-binary :all: -r requirements-build.lock
scripts/pip_install.sh --require-hashes -r requirements-dev.lock

# 3. This checkout, in place.
scripts/pip_install.sh --no-deps --editable .
