#!/usr/bin/env bash
# Prints where the programs of a cluster are, a line "NAME DIRECTORY" for each name given (all without arguments), and builds what is
# not there: into a cache outside of this tree, one directory for each version, in place only when it is complete.
# `build.sh --missing NAME...` builds nothing and prints the names that would have to be built.
# Ends with 3 if Go is needed and not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/cluster/versions.sh
source "$here/versions.sh"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/fusecache-build"
# Without what only a debugger reads they compile in six sevenths of the time, and in seven eighths of that if the compiler's own
# garbage is collected less often.
export GOFLAGS="-buildvcs=false -trimpath -gcflags=all=-dwarf=false" CGO_ENABLED=0 GOWORK=off GOGC=400

missing_only=
if [ "${1:-}" = --missing ]; then
    missing_only=1
    shift
fi
if [ $# = 0 ]; then
    mapfile -t names < <(printf '%s\n' "${!version[@]}" | sort)
    set -- "${names[@]}"
fi

build_program() { # build_program DIRECTORY PACKAGE [NAME=VALUE...]: one of programs/go.mod, with variables set
    local directory=$1 package=$2 flags="-s -w" assignment
    for assignment in "${@:3}"; do flags+=" -X $assignment"; done
    # Nothing of theirs is inlined but what all programs here share, Go's own library: they are compiled in three quarters of the time,
    # and have little to do.
    (cd "$here/programs" && go build "-gcflags=all=-dwarf=false -l" -gcflags=std=-dwarf=false -ldflags "$flags" -o "$directory/" "$package")
}

build() { # build NAME DIRECTORY
    local wanted=${version[$1]}
    case $1 in
    coredns) build_program "$2" ./coredns ;;
    helm) # without a cluster it renders charts for Kubernetes 1.20 unless it is told otherwise here
        build_program "$2" "${package[$1]}" "helm.sh/helm/v3/internal/version.version=$wanted" \
            helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 \
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$(cut -d. -f2 <<<"${version[kubernetes]}")"
        ;;
    kubernetes) "$here/kubernetes/build.sh" "$2" "$wanted" ;;
    pause) go build -ldflags "-s -w" -o "$2/pause" "$here/pause/main.go" ;;
    *) build_program "$2" "${package[$1]}" "main.version=$wanted" ;;
    esac
}

# A minute of waiting for the network, while those before it compile.
if [[ " $* " == *" kubernetes "* && "$1" != kubernetes && -z "$missing_only" && ! -d "$cache/kubernetes-${version[kubernetes]}" ]] && command -v go >/dev/null; then
    "$here/kubernetes/build.sh" --fetch "${version[kubernetes]}" >/dev/null 2>&1 & # what it cannot bring is asked for again
    fetching=$!
    trap 'kill "$fetching" 2>/dev/null || true' EXIT
fi

for name; do
    [ -n "${version[$name]:-}" ] || { echo "build.sh: there is no $name; there are: ${!version[*]}" >&2; exit 2; }
    directory="$cache/$name-${version[$name]}"
    if [ -n "$missing_only" ]; then
        [ -d "$directory" ] || echo "$name"
        continue
    fi
    mkdir -p "$cache"
    exec 9>"$cache/.$name.lock"
    flock 9 # somebody else may build the same just now
    if [ ! -d "$directory" ]; then
        command -v go >/dev/null || {
            echo "building $name needs Go 1.26 or newer, which is not installed" >&2
            exit 3
        }
        echo "Building $name ${version[$name]} (once, about ${seconds[$name]} s) ..." >&2
        rm -rf "$directory.part"
        mkdir "$directory.part"
        { build "$name" "$directory.part" && [ -n "$(ls -A "$directory.part")" ]; } >"$cache/$name.log" 2>&1 9>&- || {
            echo "$name could not be built; $cache/$name.log ends with:" >&2
            tail -n 15 "$cache/$name.log" >&2
            exit 1
        }
        mv "$directory.part" "$directory"
        rm -f "$cache/$name.log"
    fi
    exec 9>&-
    echo "$name $directory"
done
