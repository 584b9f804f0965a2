# The version of everything that build.sh beside this file makes, and how long that takes on two cores (seconds), each after the one
# before it, from an empty cache.
# shellcheck shell=bash disable=SC2034,SC2154 # sourced by build.sh, whose directory is $here
# kubectl is not here: it comes from PyPI, see requirements-cluster.lock. What Debian brings is in packages.sh,
# the base of images in ../image_base.sh.

declare -A version=(
    [kubernetes]=v1.34.4     # API server, controller manager, scheduler, kubelet, proxy
    [pause]=1                # ours; count up when pause/main.go changes
)
# Programs of programs/go.mod, one module, so that what they share is compiled once: a client of Kubernetes takes minutes. A version is
# changed there, by `go get PACKAGE@VERSION && go mod tidy`.
declare -A package=(
    [csi-attacher]=github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher
    [csi-provisioner]=github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner
    [csi-sanity]=github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
    [coredns]=github.com/coredns/coredns # programs/coredns/main.go, which is made of it
    [helm]=helm.sh/helm/v3/cmd/helm
    [kubeconform]=github.com/yannh/kubeconform/cmd/kubeconform
)
for name in "${!package[@]}"; do
    version[$name]=$(sed -n 's/^\(require\)\?\s*\(\S\+\) \(v\S\+\).*/\2 \3/p' "$here/programs/go.mod" |
        awk -v package="${package[$name]}/" 'index(package, $1 "/") == 1 { print $2 }')
done
unset name

declare -A seconds=(
    [coredns]=170 [csi-attacher]=165 [csi-provisioner]=25 [csi-sanity]=20 [helm]=40 [kubeconform]=5 [kubernetes]=400 [pause]=2
)
