"""The programs of the control plane's box: etcd, API server, controller manager, scheduler, DNS.

Each `prepare` writes the files a program reads, each `start` starts it; boot.py decides when. The files are in /etc/kubernetes of
the box. Only the API server and DNS listen to anybody but the box itself.
"""

from __future__ import annotations

import shutil
from typing import Any

from tests.cluster_harness import kubeconfigs
from tests.cluster_harness.addresses import API_PORT, Addresses
from tests.cluster_harness.boxes import Box
from tests.cluster_harness.certificates import Authority

KUBERNETES = "/opt/kubernetes/kubernetes"
COREDNS = "/opt/coredns/coredns"
FILES = "/etc/kubernetes"
ETCD_URL = "http://127.0.0.1:2379"
ETCD_PEER_URL = "http://127.0.0.1:2380"
CLUSTER_DOMAIN = "cluster.local"
MACHINE_NAME = "machine.fusecache.internal"  # resolves to addresses.machine in every pod, and so does all below it
DNS_TTL_SECONDS = 5
SERVER_NAMES = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{CLUSTER_DOMAIN}"]
MASTERS = "system:masters"


def prepare(box: Box, addresses: Addresses, authority: Authority) -> None:
    """Issue the certificates and write the files of all programs."""
    names = [*SERVER_NAMES, addresses.control_plane, addresses.api_service, "127.0.0.1", "localhost"]
    authority.issue("kube-apiserver", "kube-apiserver", names=names)
    authority.issue("kubelet-client", "kube-apiserver-kubelet-client", MASTERS)
    authority.make_key("service-accounts")
    clients = {
        "kube-controller-manager": "system:kube-controller-manager",
        "kube-scheduler": "system:kube-scheduler",
        "coredns": "system:coredns",
    }
    files = box.root / FILES.lstrip("/")
    for name, user in clients.items():
        authority.issue(name, user)
        kubeconfigs.write(files / f"{name}.kubeconfig", addresses.api_url, authority.directory, name)
    for name in ("ca.crt", "ca.key", "kube-apiserver.crt", "kube-apiserver.key", "kubelet-client.crt", "kubelet-client.key",
                 "service-accounts.key", "service-accounts.pub"):  # fmt: skip
        shutil.copy(authority.directory / name, files / name)
    (files / "Corefile").write_text(_corefile(addresses))


def start_etcd(box: Box) -> None:
    """On a file system in memory: nothing here outlives the processes, and etcd waits for the disk at each write."""
    command = ["/usr/bin/etcd", "--name=only", "--data-dir=/run/etcd", "--log-level=warn"]
    command += [f"--listen-client-urls={ETCD_URL}", f"--advertise-client-urls={ETCD_URL}", f"--listen-peer-urls={ETCD_PEER_URL}"]
    command += [f"--initial-advertise-peer-urls={ETCD_PEER_URL}", f"--initial-cluster=only={ETCD_PEER_URL}"]
    box.start("etcd", command)


def start_api_server(box: Box, addresses: Addresses) -> None:
    """Webhooks and aggregated APIs are called at the address of a pod, as no proxy of services runs in this box."""
    command = [
        KUBERNETES, "kube-apiserver",
        f"--etcd-servers={ETCD_URL}",
        f"--advertise-address={addresses.control_plane}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={addresses.services}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-aggregator-routing=true",
        f"--client-ca-file={FILES}/ca.crt",
        f"--tls-cert-file={FILES}/kube-apiserver.crt",
        f"--tls-private-key-file={FILES}/kube-apiserver.key",
        f"--kubelet-certificate-authority={FILES}/ca.crt",
        f"--kubelet-client-certificate={FILES}/kubelet-client.crt",
        f"--kubelet-client-key={FILES}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-signing-key-file={FILES}/service-accounts.key",
        f"--service-account-key-file={FILES}/service-accounts.pub",
    ]  # fmt: skip
    box.start("kube-apiserver", command)


def start_controllers(box: Box) -> None:
    """The controller manager and the scheduler. Neither has a rival, so neither asks for a lease first."""
    box.start("kube-controller-manager", [
        KUBERNETES, "kube-controller-manager",
        f"--kubeconfig={FILES}/kube-controller-manager.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--root-ca-file={FILES}/ca.crt",
        f"--service-account-private-key-file={FILES}/service-accounts.key",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={FILES}/ca.crt",
        f"--cluster-signing-key-file={FILES}/ca.key",
        "--flex-volume-plugin-dir=/var/lib/flex-volumes",
    ])  # fmt: skip
    box.start("kube-scheduler", [
        KUBERNETES, "kube-scheduler",
        f"--kubeconfig={FILES}/kube-scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ])  # fmt: skip


def start_dns(box: Box) -> None:
    box.start("coredns", [COREDNS, "-conf", f"{FILES}/Corefile"])


def dns_objects(addresses: Addresses) -> list[dict[str, Any]]:
    """Return what the API server must hold for DNS: its service, whose only endpoint is in this box, and its permissions."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    rules = [
        {"apiGroups": [""], "resources": ["services", "namespaces", "pods", "endpoints"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return [
        {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"clusterIP": addresses.dns_service, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports,
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "endpoints": [{"addresses": [addresses.control_plane], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
    ]  # fmt: skip


def _corefile(addresses: Addresses) -> str:
    """Names of the cluster and of the machine; every other name does not exist, as nothing outside can be reached.

    A block for each, because within a block the order of plugins is CoreDNS's own, in which `template` comes first.
    """
    return f"""{CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
    bind {addresses.control_plane}
    errors
    ready 127.0.0.1:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {FILES}/coredns.kubeconfig
        pods insecure
        ttl {DNS_TTL_SECONDS}
    }}
    loadbalance
}}

{MACHINE_NAME} {{
    bind {addresses.control_plane}
    errors
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A {addresses.machine}"
    }}
    template IN AAAA {{
        rcode NOERROR
    }}
}}

. {{
    bind {addresses.control_plane}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
