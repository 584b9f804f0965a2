#!/usr/bin/env bash
# Prints a tar file of Debian with Python and libnfs, the base of images where no registry can be reached. Made once (root, a minute), from the
# mirror that this machine uses, into a cache outside of this tree.
set -euo pipefail
suite=bookworm
tar="${XDG_CACHE_HOME:-$HOME/.cache}/fusecache-build/image-base-$suite-2.tar"
if [ ! -f "$tar" ]; then
    command -v debootstrap >/dev/null || { echo "image_base.sh: debootstrap is not installed; images are not built" >&2; exit 3; }
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 2>/dev/null | head -n 1)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,libnfs13 $suite "$work/root" "${mirror:-https://deb.debian.org/debian}" >&2
    rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/*
    mkdir -p "$(dirname "$tar")"
    tar -C "$work/root" -cf "$tar.new" .
    mv "$tar.new" "$tar"
fi
echo "$tar"
