#!/usr/bin/env bash
# Sees to the programs that a cluster takes from Debian: installs what is missing when root, else names it in one line and fails.
# Called by `make cluster` and `make test-cluster`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

# A program, and the package that brings it. It is the program that counts: on a machine with Docker's own containerd, Debian's
# package must stay away, as it would push Docker out.
needs=(
    "etcd etcd-server"
    "containerd containerd"
    "ctr containerd"
    "runc runc"
    "/usr/lib/cni/ptp containernetworking-plugins"
    "iptables iptables"
    "ip iproute2"
    "nsenter util-linux"
    "debootstrap debootstrap"
)
missing=()
for need in "${needs[@]}"; do
    read -r program package <<<"$need"
    command -v "$program" >/dev/null || [[ " ${missing[*]-} " == *" $package "* ]] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    exec "$here/../apt_install.sh" --no-remove "${missing[@]}"
fi
echo "a cluster needs Debian's ${missing[*]}: sudo apt install ${missing[*]}" >&2
exit 1
