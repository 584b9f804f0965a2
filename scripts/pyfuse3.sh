#!/usr/bin/env bash
# Puts the pyfuse3 engine into .venv if it can be compiled here; says in one line why not otherwise. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

if compgen -G '.venv/lib/python3.*/site-packages/pyfuse3/__init__*.so' >/dev/null; then
    exit 0
fi
missing=()
command -v gcc >/dev/null || missing+=(gcc)
if command -v pkg-config >/dev/null; then
    pkg-config --exists fuse3 || missing+=(libfuse3-dev)
else
    missing+=(pkg-config libfuse3-dev)
fi
header=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
[ -e "$header" ] || missing+=("python3-dev ($header)")
if [ ${#missing[@]} -gt 0 ]; then
    echo "The pyfuse3 engine is not tested, it cannot be compiled without: ${missing[*]}"
    exit 0
fi
echo "Compiling the pyfuse3 engine into .venv ..."
scripts/pip_install.sh --require-hashes -r requirements-pyfuse3.lock ||
    echo "The pyfuse3 engine is not tested, it did not compile (see above)"
