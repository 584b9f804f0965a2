#!/bin/bash
# Prints where csi-sanity is, the compliance test of the CSI project; builds it first (Go, a minute) into a cache outside of this tree.
set -euo pipefail
version=v5.6.0
directory="${XDG_CACHE_HOME:-$HOME/.cache}/fusecache-build/csi-sanity-$version"
if [ ! -x "$directory/csi-sanity" ]; then
    command -v go > /dev/null || { echo "csi_sanity.sh: go is not installed; without it, the compliance test is skipped" >&2; exit 3; }
    mkdir -p "$directory"
    GOBIN="$directory" GOFLAGS=-mod=mod go install "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@$version" >&2
fi
echo "$directory/csi-sanity"
