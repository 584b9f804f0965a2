"""The network between the boxes: a bridge inside the control plane's box, a wire from it to each node and one to the machine.

The machine's end of its wire is the only interface that the machine sees; it carries the addresses and the routes to nodes, pods
and services, which go with it. There is no rule in the machine's packet filter, no bridge and no forwarding: everything that the
cluster's network needs of those is inside the boxes, and ends with them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

from tests.cluster_harness.boxes import Box, BoxError
from tests.cluster_harness.record import ClusterRecord

BRIDGE = "nodes"
IP_SECONDS = 20.0


def connect(record: ClusterRecord, control_plane: Box, nodes: list[Box]) -> None:
    """Wire up boxes that have just been made. Raises: BoxError."""
    addresses = record.addresses
    in_control_plane, in_nodes = _pid(control_plane), [_pid(node) for node in nodes]
    pods = {addresses.node(record.number(node.name)): addresses.node_pods(record.number(node.name)) for node in nodes}

    # 1. The bridge, and the wires: the end in the bridge has the name of the box it leads to.
    lines = ["link set lo up", f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up"]
    lines.append(f"address add {addresses.control_plane}/24 dev {BRIDGE}")
    for node, pid in zip(nodes, in_nodes, strict=True):
        lines.append(f"link add {node.name} type veth peer name eth0 netns {pid}")
    _ip(lines, in_control_plane)
    _ip([f"link add {record.interface} type veth peer name machine netns {in_control_plane}"])
    ends = ["machine", *(node.name for node in nodes)]
    lines = [line for end in ends for line in (f"link set {end} master {BRIDGE}", f"link set {end} up")]
    _ip([*lines, *_routes_to_pods(pods)], in_control_plane)

    # 2. Addresses and ways. Services get a route although nothing answers at their addresses: it is looked up before the packet
    #    filter of the box replaces the address, and without one the packet never gets there.
    for node, pid in zip(nodes, in_nodes, strict=True):
        own = addresses.node(record.number(node.name))
        lines = ["link set lo up", "link set eth0 up", f"address add {own}/24 dev eth0"]
        lines += _routes_to_pods({address: network for address, network in pods.items() if address != own})
        _ip([*lines, f"route add {addresses.services} dev eth0 src {own}"], pid)

    # 3. The machine, which reaches services through the packet filter of the first node.
    lines = [f"link set {record.interface} up", f"address add {addresses.machine}/24 dev {record.interface}"]
    lines += [f"link set {record.interface} alias {record.cgroup}"]
    _ip([*lines, *_routes_to_pods(pods), f"route add {addresses.services} via {addresses.node(1)}"])


def disconnect(record: ClusterRecord) -> None:
    """Remove the machine's interface, and with it its addresses and routes, if it is there. Raises: BoxError."""
    if is_connected(record):
        try:
            _ip([f"link delete {record.interface}"])
        except BoxError:  # it goes by itself, too, a moment after the last process of the control plane's box
            if is_connected(record):
                raise


def is_connected(record: ClusterRecord) -> bool:
    listed = subprocess.run(["ip", "-json", "link", "show"], check=True, capture_output=True, timeout=IP_SECONDS)
    return any(link.get("ifname") == record.interface for link in json.loads(listed.stdout))


def _routes_to_pods(pods: dict[str, str]) -> list[str]:
    """Args: pods: address of a node -> network of its pods."""
    return [f"route add {network} via {address}" for address, network in pods.items()]


def _pid(box: Box) -> int:
    first = box.first
    if first is None or not first.is_alive:
        raise BoxError(f"{box.name} is not running")
    return first.pid


def _ip(lines: Iterable[str], namespace_of: int | None = None) -> None:
    """Run commands of ip(8), in the network namespace of a process if one is given. Raises: BoxError."""
    enter = [] if namespace_of is None else ["nsenter", f"--target={namespace_of}", "--net", "--"]
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run([*enter, "ip", "-batch", "-"], input=text.encode(), capture_output=True, timeout=IP_SECONDS)
    if done.returncode != 0:
        raise BoxError(f"the network could not be made: {done.stderr.decode(errors='replace').strip()}")
