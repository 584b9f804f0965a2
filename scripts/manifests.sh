#!/usr/bin/env bash
# Prints the chart as plain manifests, for people without Helm: `make manifests` writes deploy/manifests/fusecache.yaml with it.
# HELM names a helm, else the one of scripts/cluster is taken, and built if need be. Arguments: those of `helm template`.
set -euo pipefail
cd "$(dirname "$0")/.."
helm=${HELM:-$(scripts/cluster/build.sh helm | cut -d' ' -f2-)/helm}
namespace=fusecache-system

cat <<END
# Generated from deploy/helm/fusecache by \`make manifests\`: do not edit.
# kubectl apply --server-side -f fusecache.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    app.kubernetes.io/part-of: fusecache
    pod-security.kubernetes.io/enforce: privileged
END
# What Helm would go by if it met these objects is left out: it has not made them.
"$helm" template fusecache deploy/helm/fusecache --namespace "$namespace" "$@" |
    sed -e '/^# Source: /d' -e '/^# Generated from csi/d' -e '/^ *helm\.sh\/resource-policy: /d' -e '/^ \+$/d' \
        -e 's|^\( *app.kubernetes.io/managed-by:\) Helm$|\1 kubectl|'
