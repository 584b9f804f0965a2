#!/usr/bin/env bash
# Runs tests/cluster on the cluster of $KUBECONFIG; without it, on clusters that are booted for them and removed whatever happens:
# one for the tests of the installed chart, and beside it one for all others, as one leaves half of two cores idle. At full length, or for
# tests that arguments name, there is one. On a machine that cannot have one it says why in a line, and the tests are skipped.
# Arguments: those of pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
harness=(.venv/bin/python -m tests.cluster_harness)

is_everything() { # is_everything ARGUMENT...: whether no argument is a path
    local argument
    for argument; do
        [ ! -e "${argument%%::*}" ] || return 1
    done
}

run_tests() {
    ! is_everything "$@" || set -- tests/cluster "$@"
    .venv/bin/python -m pytest --cluster "$@"
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

# Directories of each checkout's own: a run that was killed is cleaned up by the next, and another checkout's is left alone.
base=/var/tmp/fusecache-test-cluster-$(pwd -P | sha256sum | cut -c1-8)
all=("$base" "$base-2")
used=("$base")
if is_everything "$@" && [[ " $* " != *" --full-length "* ]]; then
    used=("${all[@]}")
    set -- --numprocesses=2 --dist=loadscope "$@" # tests/cluster/conftest.py gives each process a cluster
fi
remove() {
    local status=$? directory
    for directory in "${used[@]}"; do
        if [ "$status" != 0 ] && [ -d "$directory/logs" ]; then
            echo "The last lines of the logs:"
            tail -n 3 "$directory"/logs/*.log || true
        fi
    done
    down || status=1
    exit "$status"
}
down() {
    local directory one removals=() status=0
    for directory in "${all[@]}"; do
        "${harness[@]}" --directory="$directory" down &
        removals+=("$!")
    done
    for one in "${removals[@]}"; do
        wait "$one" || status=1
    done
    return "$status"
}
trap remove EXIT
trap 'exit 130' INT TERM HUP
down
build_programs
kubeconfigs=
for directory in "${used[@]}"; do
    "${harness[@]}" --directory="$directory" up
    kubeconfigs+=${kubeconfigs:+:}$directory/kubeconfig
done
KUBECONFIG=$kubeconfigs run_tests "$@"
