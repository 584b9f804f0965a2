"""The command line of `fusecache-csi`: what is given, checked, in one object. The only place that knows argparse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from csi.metrics_server import metrics_address
from fusecache.base.confinement import User
from fusecache.contract.keeping import GRACE_SECONDS

KUBELET_ROOT = "/var/lib/kubelet"
DAEMON_USER = "65534:65534"  # nobody
KEEP_CACHES_SECONDS = 24 * 3600  # a node that is drained and comes back finds its caches
MAX_NODE_ID_BYTES = 256  # as the specification says


class Mode(StrEnum):
    STANDALONE = "standalone"
    NODE = "node"
    CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is to do.

    Attributes:
        endpoint: unix:///path of the CSI services.
        nodes: names of the nodes that a controller may publish volumes to.
        allowed_roots: staging and target paths lie below one of them.
        cache_roots, local_roots: directories below which users may have tiers, and local:// sources.
        keep_caches_seconds: how long the cache of a Dataset stays that no pod has; 0: for ever.
        has_pods: cache pods serve the mounts; else the driver starts daemons of its own.
        custody: directory of a custody that somebody else runs; None: the driver starts its own.
        grace_seconds: how long its own custody lets a mount be without a daemon.
        plugins_registry: kubelet's directory, if the driver is to register itself.
        kubelet_endpoint: path of the endpoint as kubelet sees it.
        metrics: address and port, or None.
    """

    mode: Mode
    endpoint: str
    node_id: str
    nodes: frozenset[str]
    state_dir: Path
    allowed_roots: tuple[str, ...]
    cache_roots: tuple[str, ...]
    keep_caches_seconds: float
    local_roots: tuple[str, ...]
    daemon_user: User
    has_pods: bool
    custody: Path | None
    grace_seconds: float
    plugins_registry: Path | None
    kubelet_endpoint: str
    metrics: tuple[str, int] | None
    log_level: str
    log_format: str

    @property
    def has_node(self) -> bool:
        return self.mode is not Mode.CONTROLLER

    @property
    def has_controller(self) -> bool:
        return self.mode is not Mode.NODE


def parse(arguments: Sequence[str]) -> Settings:
    """Exits with 2 and a sentence for what cannot be."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.standalone == bool(given.mode):
        parser.error("say one of --standalone, node, controller")
    mode = Mode(given.mode or "standalone")
    if mode is Mode.CONTROLLER and not given.node:
        parser.error("a controller without a cluster has to be told the nodes: --node NAME for each")
    if mode is not Mode.CONTROLLER and not 0 < len((given.node_id or "").encode()) <= MAX_NODE_ID_BYTES:
        parser.error(f"--node-id has to have 1 to {MAX_NODE_ID_BYTES} bytes")
    if mode is not Mode.NODE and given.daemons != "own":
        parser.error("--daemons pods is for a node of a cluster: say node")
    if given.keep_caches < 0:
        parser.error("--keep-caches has to be positive, or 0 for ever")
    if not all(root.startswith("/") for root in (*given.cache_root, *given.local_root)):
        parser.error("--cache-root and --local-root have to be absolute")
    try:
        daemon_user = User.parse(given.daemon_user)
    except ValueError:
        parser.error("--daemon-user has to be UID or UID:GID, in numbers")
    return Settings(
        mode=mode,
        endpoint=given.endpoint,
        node_id=given.node_id or "",
        nodes=frozenset(given.node) if mode is Mode.CONTROLLER else frozenset({given.node_id}),
        state_dir=given.state_dir.resolve(),
        allowed_roots=(KUBELET_ROOT, *given.allowed_root),
        cache_roots=tuple(given.cache_root),
        keep_caches_seconds=given.keep_caches,
        local_roots=tuple(given.local_root),
        daemon_user=daemon_user,
        has_pods=given.daemons == "pods",
        custody=given.custody and given.custody.resolve(),
        grace_seconds=given.grace,
        plugins_registry=given.plugins_registry,
        kubelet_endpoint=given.kubelet_endpoint or given.endpoint.removeprefix("unix://"),
        metrics=given.metrics,
        log_level=given.log_level,
        log_format=given.log_format,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fusecache-csi", description="The CSI driver of fusecache.")
    add = parser.add_argument
    add("mode", nargs="?", choices=("node", "controller"), help="serve a node, or the controller of many nodes")
    add("--standalone", action="store_true", help="serve everything on this machine, without a cluster")
    add("--endpoint", required=True, help="unix:///path/csi.sock")
    add("--node-id", metavar="NAME", help="the name of this node")
    add("--node", action="append", default=[], metavar="NAME", help="controller: a node that there is; may be repeated")
    add("--state-dir", required=True, type=Path, help="where volumes, journal, mounts and caches are kept")
    add(
        "--allowed-root",
        action="append",
        default=[],
        metavar="DIR",
        help=f"paths of volumes may lie below it; may be repeated. Always: {KUBELET_ROOT}",
    )
    add(
        "--cache-root",
        action="append",
        default=[],
        metavar="DIR",
        help="users may name directories below it for tiers; may be repeated. None: all tiers lie below --state-dir",
    )
    add(
        "--local-root",
        action="append",
        default=[],
        metavar="DIR",
        help="users may name directories below it as local:// sources; may be repeated",
    )
    add(
        "--daemon-user",
        default=DAEMON_USER,
        metavar="UID[:GID]",
        help=f"of the cache daemons: {DAEMON_USER} if not given; 0 is root",
    )
    add(
        "--daemons",
        default="own",
        choices=("own", "pods"),
        help="who serves mounts: daemons that the driver starts for volumes with a source (own), or cache pods for Datasets",
    )
    add("--custody", type=Path, metavar="DIR", help="of custody that runs by itself; if not given, it is started")
    add(
        "--keep-caches",
        type=float,
        default=KEEP_CACHES_SECONDS,
        metavar="SECONDS",
        help=f"with --daemons pods: remove a cache that no pod has had for so long: {KEEP_CACHES_SECONDS} if not given, 0: never",
    )
    add(
        "--grace",
        type=float,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help=f"custody ends the connection of a mount that has no daemon for so long: {GRACE_SECONDS:g} if not given",
    )
    add("--plugins-registry", type=Path, metavar="DIR", help="kubelet's: the driver registers itself there")
    add("--kubelet-endpoint", metavar="PATH", help="the endpoint's path as kubelet sees it, if another one")
    add("--metrics", type=metrics_address, metavar="ADDRESS:PORT", help="where Prometheus may ask, such as 127.0.0.1:9810")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    add("--log-format", default="text", choices=("text", "json"))
    return parser
