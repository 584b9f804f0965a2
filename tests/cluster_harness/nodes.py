"""The programs of a node's box: containerd with runc and CNI, the kubelet, the proxy of services.

`prepare` writes their configuration into the box; the starts are apart, as boot.py waits in between.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import yaml

from tests.cluster_harness import cgroups, kubeconfigs, registry
from tests.cluster_harness.addresses import Addresses
from tests.cluster_harness.boxes import Box, BoxError
from tests.cluster_harness.certificates import Authority
from tests.cluster_harness.control_plane import CLUSTER_DOMAIN, FILES, KUBERNETES

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_PLUGINS = "/usr/lib/cni"
REGISTRIES = f"{FILES}/registries"
PAUSE_IMAGE = "localhost/fusecache/pause:1"


def prepare(box: Box, addresses: Addresses, number: int, authority: Authority) -> None:
    """Issue the certificates of a node and write the files of all its programs. The node's name is the box's."""
    files = box.root / FILES.lstrip("/")
    certificates = {f"kubelet-{box.name}": (f"system:node:{box.name}", "system:nodes"), "kube-proxy": ("system:kube-proxy", "")}
    for name, (user, group) in certificates.items():
        serving = [box.name, addresses.node(number)] if group else []
        authority.issue(name, user, group, names=serving)
        kubeconfigs.write(files / f"{name.removesuffix(f'-{box.name}')}.kubeconfig", addresses.api_url, authority.directory, name)
    shutil.copy(authority.certificate, files / "ca.crt")
    for suffix in ("crt", "key"):
        shutil.copy(authority.directory / f"kubelet-{box.name}.{suffix}", files / f"kubelet.{suffix}")
    (files / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(box, addresses, number)))
    (files / "kube-proxy.yaml").write_text(yaml.safe_dump(_proxy(box, addresses)))
    (files / "containerd.toml").write_text(_containerd())
    default = box.root / REGISTRIES.lstrip("/") / "_default"
    default.mkdir(parents=True)
    (default / "hosts.toml").write_text(registry.hosts_file(addresses))
    (box.root / "etc/cni/net.d/10-pods.conflist").write_text(json.dumps(_cni(addresses, number), indent=1))


def start_containerd(box: Box) -> None:
    box.start("containerd", ["/usr/bin/containerd", f"--config={FILES}/containerd.toml"])


def containerd_answers(box: Box) -> bool:
    """Whether containerd takes calls. A kubelet that starts before it does gives up at once."""
    try:
        box.run(["ctr", "version"])
    except BoxError:
        return False
    return True


def start_kubelet(box: Box, address: str) -> None:
    box.start("kubelet", [
        KUBERNETES, "kubelet",
        f"--config={FILES}/kubelet.yaml",
        f"--kubeconfig={FILES}/kubelet.kubeconfig",
        f"--hostname-override={box.name}",
        f"--node-ip={address}",
    ])  # fmt: skip


def start_proxy(box: Box) -> None:
    box.start("kube-proxy", [KUBERNETES, "kube-proxy", f"--config={FILES}/kube-proxy.yaml"])


def _kubelet(box: Box, addresses: Addresses, number: int) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node(number),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{FILES}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{FILES}/kubelet.crt",
        "tlsPrivateKeyFile": f"{FILES}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [addresses.dns_service],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups.pods_cgroup(box.cgroup, box.name),
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        # Disk and memory are shared with the machine: that is no reason to evict, and no image can be pulled again.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "volumePluginDir": "/var/lib/flex-volumes",
    }


def _proxy(box: Box, addresses: Addresses) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": box.name,
        "clientConnection": {"kubeconfig": f"{FILES}/kube-proxy.kubeconfig"},
        "clusterCIDR": addresses.pods,
        "conntrack": {"maxPerCore": 0, "min": 0},  # would set limits of the whole machine
        "oomScoreAdj": 0,
    }


def _cni(addresses: Addresses, number: int) -> dict[str, Any]:
    """A wire from the node to each pod, no bridge: what a pod sends is routed, so the packet filter sees it on every kernel."""
    pods = addresses.node_pods(number)
    ipam = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{"type": "ptp", "ipam": ipam}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _containerd() -> str:
    """restrict_oom_score_adj: without CAP_SYS_RESOURCE, runc may not lower the score of a pod, and would not start it."""
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
    "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{REGISTRIES}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
