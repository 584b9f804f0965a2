#!/usr/bin/env bash
# Builds the images fusecache-csi and fusecache-fuse with buildah. `make images` calls it; BASE=IMAGE names another base.
# With an argument, a directory: everything is kept there, so that it can be removed again, and the base is made of Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v buildah >/dev/null || { echo "images.sh: buildah is not installed (Debian, Ubuntu: apt install buildah)" >&2; exit 3; }
storage=()
if [ $# -gt 0 ]; then
    storage=(--root "$1/storage" --runroot "$1/run")
    tar=$(scripts/image_base.sh) || exit $?
    container=$(buildah "${storage[@]}" from scratch)
    buildah "${storage[@]}" add --quiet "$container" "$tar" / >&2
    buildah "${storage[@]}" commit --quiet --rm "$container" fusecache-base >&2
    BASE=localhost/fusecache-base
fi

# A build sees the package index that this machine uses, and the certificates that it trusts.
# Layers: most of the two builds is the same.
given=(--isolation chroot --layers ${BASE:+--build-arg BASE="$BASE"})
bundle=/etc/ssl/certs/ca-certificates.crt
[ ! -f $bundle ] || given+=(-v $bundle:$bundle:ro --env PIP_CERT=$bundle)
[ ! -f /etc/pip.conf ] || given+=(-v /etc/pip.conf:/etc/pip.conf:ro)
[ -z "${PIP_INDEX_URL:-}" ] || given+=(--env PIP_INDEX_URL="$PIP_INDEX_URL")
for name in csi fuse; do
    buildah "${storage[@]}" bud "${given[@]}" --quiet --file Dockerfile.$name --tag fusecache-$name . >&2
    echo "localhost/fusecache-$name"
done
