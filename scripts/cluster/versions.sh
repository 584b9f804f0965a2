# The version of everything that build.sh beside this file makes, and how long that takes on two cores with an empty cache (seconds).
# shellcheck shell=bash disable=SC2034 # sourced by build.sh
# kubectl is not here: it comes from PyPI, see requirements-cluster.lock. What Debian brings is in packages.sh,
# the base of images in ../image_base.sh.

declare -A version=(
    [coredns]=v1.14.6
    [csi-attacher]=v4.13.0
    [csi-provisioner]=v6.4.0
    [helm]=v3.21.4
    [kubeconform]=v0.8.0
    [kubernetes]=v1.34.4     # API server, controller manager, scheduler, kubelet, proxy
    [pause]=1                # ours; count up when pause/main.go changes
)
declare -A seconds=(
    [coredns]=140 [csi-attacher]=160 [csi-provisioner]=160 [helm]=110 [kubeconform]=20 [kubernetes]=340 [pause]=2
)
