"""`fusecache-csi controller --cluster`: the controller of a cluster as a program, beside csi-attacher and csi-provisioner.

State: none; it may be killed at any time. It alone knows argparse here. Several may run: their sidecars elect one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lightkube import AsyncClient
from lightkube.core.exceptions import ConfigError

from csi.cluster.volumes import ClusterVolumes
from csi.errors import RpcError
from csi.metrics_server import metrics_address
from csi.operator.objects import Objects
from csi.rpc.call_metrics import CallMetrics
from csi.rpc.cluster_controller import ClusterController
from csi.rpc.health import Health
from csi.rpc.identity import Identity
from csi.rpc.server import Server
from csi.running import ended, in_background
from csi.stubs import csi_pb2_grpc
from csi.volumes.provisioning import Provisioning
from fusecache.base.hardening import harden_process
from fusecache.base.log import configure


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """`endpoint`: unix:///path of the services. `metrics`: address and port, or None."""

    endpoint: str
    metrics: tuple[str, int] | None


def main(arguments: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="fusecache-csi controller --cluster", description="The controller of a cluster.")
    add = parser.add_argument
    add("--cluster", action="store_true", required=True, help="Datasets and PVs of the cluster are the record of volumes")
    add("--endpoint", required=True, help="unix:///path/csi.sock")
    add("--metrics", type=metrics_address, metavar="ADDRESS:PORT", help="where Prometheus may ask; :9810 for all addresses")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    add("--log-format", default="text", choices=("text", "json"))
    given = parser.parse_args(arguments)
    configure("controller", given.log_level, given.log_format)
    for library in ("httpx2", "httpcore2"):  # a line for every request, or several
        logging.getLogger(library).setLevel("WARNING")
    harden_process()
    os.umask(0o077)
    try:
        asyncio.run(_serve(ClusterSettings(given.endpoint, given.metrics)))
    except (RpcError, OSError, ConfigError) as error:
        sys.stderr.write(f"fusecache-csi: {error}\n")
        return 1
    return 0


async def _serve(settings: ClusterSettings) -> None:
    """Raises: RpcError, OSError, ConfigError."""
    metrics = CallMetrics()
    server = Server(settings.endpoint, metrics)
    health = Health(_is_ready)
    async with contextlib.AsyncExitStack() as running:
        client = AsyncClient()
        running.push_async_callback(client.aclose)
        controller = ClusterController(ClusterVolumes(Objects(client), Provisioning()))
        csi_pb2_grpc.add_IdentityServicer_to_server(Identity(_is_ready, has_controller=True, can_expand=False), server.grpc)
        csi_pb2_grpc.add_ControllerServicer_to_server(controller, server.grpc)
        health.add_to(server.grpc)
        await server.start()
        running.push_async_callback(server.stop)
        if settings.metrics is not None:
            metrics.serve(settings.metrics)
        await running.enter_async_context(in_background(health.watch()))
        await ended()


async def _is_ready() -> bool:
    """Whether the API server and a store answer, each call says for itself."""
    return True
