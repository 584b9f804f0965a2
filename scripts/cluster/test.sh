#!/usr/bin/env bash
# Runs tests/cluster on the cluster of $KUBECONFIG; without it, on one that is booted for them and removed whatever happens.
# On a machine that cannot have one it says why in a line, and the tests are skipped. Arguments: those of pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
harness=(.venv/bin/python -m tests.cluster_harness)
run_tests() { # run_tests ARGUMENT...: all of tests/cluster unless an argument is a path
    local argument
    for argument; do
        if [ -e "${argument%%::*}" ]; then
            .venv/bin/python -m pytest --cluster "$@"
            return
        fi
    done
    .venv/bin/python -m pytest --cluster tests/cluster "$@"
}

build_programs() { # here, as no test has time for it; who has no Go is told by the tests that need it
    scripts/cluster/build.sh >/dev/null || [ $? = 3 ]
}

if [[ " $* " == *" --full-length "* ]] && [ "$(id -u)" = 0 ] && ! command -v docker-registry >/dev/null; then
    scripts/apt_install.sh docker-registry || true # its test says that it is missing
fi
if [ -n "${KUBECONFIG:-}" ]; then
    build_programs
    run_tests "$@"
    exit
fi
[ "$(id -u)" != 0 ] || scripts/cluster/packages.sh || true
if ! reason=$("${harness[@]}" missing); then
    echo "make test-cluster: skipped, $reason"
    run_tests "$@"
    exit
fi

# One directory for each checkout: a run that was killed is cleaned up by the next, and another checkout's is left alone.
directory=/var/tmp/fusecache-test-cluster-$(pwd -P | sha256sum | cut -c1-8)
harness+=(--directory="$directory")
remove() {
    local status=$?
    if [ "$status" != 0 ] && [ -d "$directory/logs" ]; then
        echo "The last lines of the logs:"
        tail -n 3 "$directory"/logs/*.log || true
    fi
    "${harness[@]}" down || status=1
    exit "$status"
}
trap remove EXIT
trap 'exit 130' INT TERM HUP
"${harness[@]}" down
build_programs
"${harness[@]}" up
KUBECONFIG="$directory/kubeconfig" run_tests "$@"
