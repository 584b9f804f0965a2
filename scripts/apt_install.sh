#!/usr/bin/env bash
# Installs Debian packages without starting the services they bring. For root only. Arguments: package names.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
log=$(mktemp)
install() { apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; }
echo "Installing Debian packages: $*"
if ! install "$@"; then # package lists that are missing or out of date are the usual reason
    apt-get update >"$log" 2>&1 && install "$@" || {
        tail -n 5 "$log" >&2
        rm -f "$log"
        exit 1
    }
fi
rm -f "$log"
