#!/usr/bin/env bash
# Builds the components of Kubernetes into one program. Arguments: directory, version. With --fetch as the directory it only brings
# the sources into Go's cache of modules. Called by ../build.sh, with its Go settings.
#
# k8s.io/kubernetes cannot be installed by `go install`: its go.mod replaces its libraries by directories beside it. The module made
# here requires it and replaces each of them by the version of that library that was published with it: v0.34.4 belongs to v1.34.4.
set -euo pipefail
export GOFLAGS="$GOFLAGS -mod=mod"
here=$(cd "$(dirname "$0")" && pwd)
directory=$1 version=$2
libraries="v0.${version#v1.}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cp "$here/main.go" .
go mod init fusecache.build/kubernetes
upstream=$(go list -m -f '{{.GoMod}}' "k8s.io/kubernetes@$version")
mapfile -t replaced < <(sed -nE 's|^[[:space:]]*(replace )?(k8s\.io/[^ ]+) => \./staging/.*|\2|p' "$upstream")
[ ${#replaced[@]} -gt 0 ]
for module in "${replaced[@]}"; do
    go mod edit -replace "$module=$module@$libraries"
done
go mod edit -require "k8s.io/kubernetes@$version"
go mod edit -go "$(go list -m -f '{{.GoVersion}}' "k8s.io/kubernetes@$version")"

if [ "$directory" = --fetch ]; then
    go list -deps . >/dev/null
    exit
fi

# Clients refuse a server whose version they cannot parse, and the default is v0.0.0-master.
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
done
# Inlined is what the API server does all day: Go's own library, and what reads, writes, merges and stores objects.
inlined=()
for pattern in std 'k8s.io/apimachinery/...' 'k8s.io/apiserver/...' 'sigs.k8s.io/...' 'google.golang.org/...' 'go.etcd.io/...'; do
    inlined+=("-gcflags=$pattern=-dwarf=false")
done
go build "-gcflags=all=-dwarf=false -l" "${inlined[@]}" -ldflags "$flags" -o "$directory/kubernetes" .
