"""`fusecache-csi`: the driver as a program.

`fusecache-csi --standalone --endpoint unix:///path/csi.sock --node-id NAME --state-dir DIR` serves identity, controller and node
for one machine without a cluster, and starts the cache daemons itself; they and their mounts outlive it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csi.errors import RpcError
from csi.mounting.custody import Custody
from csi.mounting.daemons import Daemons
from csi.mounting.node_mounts import NodeMounts
from csi.mounting.paths import Roots
from csi.mounting.plan import NodeDirectories
from csi.rpc.call_metrics import CallMetrics
from csi.rpc.controller import Controller
from csi.rpc.identity import Identity
from csi.rpc.node import Node
from csi.rpc.registration import Registration
from csi.rpc.server import Server
from csi.stubs import csi_pb2_grpc
from csi.volumes.provisioning import Provisioning
from csi.volumes.records import VolumeRecords
from fusecache.base.hardening import harden_process
from fusecache.base.log import configure
from fusecache.contract.errors import CacheError

log = logging.getLogger(__name__)

KUBELET_ROOT = "/var/lib/kubelet"


@dataclass(frozen=True, slots=True)
class Settings:
    endpoint: str
    node_id: str
    state_dir: Path
    allowed_roots: tuple[str, ...]
    log_level: str
    plugins_registry: Path | None
    kubelet_endpoint: str
    metrics: tuple[str, int] | None


def parse(arguments: Sequence[str]) -> Settings:
    """Exits with 2 for what cannot be."""
    parser = argparse.ArgumentParser(prog="fusecache-csi", description="The CSI driver of fusecache.")
    parser.add_argument("--standalone", action="store_true", help="serve everything on this machine, without a cluster")
    parser.add_argument("--endpoint", required=True, help="unix:///path/csi.sock")
    parser.add_argument("--node-id", required=True, help="the name of this machine")
    parser.add_argument("--state-dir", required=True, type=Path, help="where volumes, journal, mounts and caches are kept")
    parser.add_argument(
        "--allowed-root",
        action="append",
        default=[],
        metavar="DIR",
        help=f"paths of volumes may lie below it; may be repeated. Always: {KUBELET_ROOT}",
    )
    parser.add_argument("--plugins-registry", type=Path, metavar="DIR", help="kubelet's: the driver registers itself there")
    parser.add_argument("--kubelet-endpoint", metavar="PATH", help="the endpoint's path as kubelet sees it, if another one")
    parser.add_argument("--metrics", metavar="ADDRESS:PORT", help="where Prometheus may ask, such as 127.0.0.1:9810")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    given = parser.parse_args(arguments)
    if not given.standalone:
        parser.error("only --standalone is there yet: the driver inside a cluster comes with the operator")
    if not 0 < len(given.node_id.encode()) <= 256:
        parser.error("--node-id has to have 1 to 256 bytes")
    roots = (KUBELET_ROOT, *given.allowed_root)
    address, _, port = (given.metrics or "").rpartition(":")
    if given.metrics and not (address and port.isdigit()):
        parser.error("--metrics has to be ADDRESS:PORT")
    return Settings(
        given.endpoint,
        given.node_id,
        given.state_dir.resolve(),
        roots,
        given.log_level,
        given.plugins_registry,
        given.kubelet_endpoint or given.endpoint.removeprefix("unix://"),
        (address, int(port)) if given.metrics else None,
    )


def main() -> int:
    settings = parse(sys.argv[1:])
    configure("csi", settings.log_level)
    harden_process()
    os.umask(0o077)
    try:
        asyncio.run(serve(settings))
    except (RpcError, CacheError, OSError) as error:
        sys.stderr.write(f"fusecache-csi: {error}\n")
        return 1
    return 0


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Mounts stay: pods go on reading. Raises: RpcError, OSError."""
    directories = NodeDirectories(settings.state_dir)
    custody = Custody(directories.custody, os.environ)
    mounts = NodeMounts(directories, Roots(settings.allowed_roots), custody, Daemons(os.environ))
    controller = Controller(VolumeRecords(settings.state_dir / "volumes"), Provisioning(), frozenset({settings.node_id}))
    metrics = CallMetrics()
    metrics.watch("datasets", "datasets that are mounted here", lambda: len(list(mounts.journal)))
    metrics.watch("publications", "bind mounts", lambda: sum(len(mount.publications) for mount in mounts.journal))
    metrics.watch("recoveries_total", "mounts and daemons that were gone and made anew", lambda: mounts.recoveries)
    server = Server(settings.endpoint, metrics)

    async def is_ready() -> bool:
        try:
            await custody.mounts()
        except CacheError as error:
            log.warning("not ready: %s", error)
            return False
        return True

    csi_pb2_grpc.add_IdentityServicer_to_server(Identity(is_ready, has_controller=True), server.grpc)
    csi_pb2_grpc.add_ControllerServicer_to_server(controller, server.grpc)
    csi_pb2_grpc.add_NodeServicer_to_server(Node(settings.node_id, mounts, controller.modified), server.grpc)
    await custody.ensure_running()
    await mounts.recover()
    await server.start()
    registration = None
    if settings.plugins_registry is not None:
        registration = Registration(settings.plugins_registry, settings.kubelet_endpoint)
        await registration.start()
    if settings.metrics is not None:
        metrics.serve(*settings.metrics)
    log.info("%s serves on %s", settings.node_id, settings.endpoint)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    watching = asyncio.create_task(mounts.watch())
    await ended.wait()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    if registration is not None:
        await registration.stop()
    await server.stop()
