"""`fusecache-csi`: the driver as a program, in one of three modes (settings.py).

State: none of its own; it puts the parts together, starts and stops them. Cache daemons, custody and mounts outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path

from csi.errors import RpcError, refused
from csi.mounting.custody import Custody
from csi.mounting.daemons import Daemons
from csi.mounting.inline_volumes import InlineVolumes
from csi.mounting.node_mounts import NodeMounts
from csi.mounting.node_places import NodePlaces
from csi.mounting.own_daemons import OwnDaemons
from csi.mounting.ownership import make_passable
from csi.mounting.paths import Roots
from csi.mounting.plan import NodeDirectories
from csi.mounting.pod_daemons import PodDaemons
from csi.mounting.serving import Serving
from csi.mounting.unused_caches import UnusedCaches
from csi.rpc.call_metrics import CallMetrics
from csi.rpc.controller import Controller
from csi.rpc.health import Health
from csi.rpc.identity import Identity
from csi.rpc.node import Node
from csi.rpc.registration import Registration
from csi.rpc.server import Server
from csi.running import ended, in_background
from csi.settings import Settings, parse
from csi.stubs import csi_pb2_grpc
from csi.volumes.provisioning import Provisioning
from csi.volumes.records import VolumeRecords
from fusecache.base.confinement import shut_out
from fusecache.base.hardening import harden_process
from fusecache.base.log import configure
from fusecache.contract.errors import CacheError

log = logging.getLogger(__name__)


def main() -> int:
    if sys.argv[1:2] == ["operator"]:
        from csi.operator.app.command import main as run_operator  # what a node needs nothing of

        return run_operator(sys.argv[2:])
    if sys.argv[1:2] == ["controller"] and "--cluster" in sys.argv:
        from csi.cluster_program import main as run_controller  # neither of that

        return run_controller(sys.argv[2:])
    settings = parse(sys.argv[1:])
    configure("csi", settings.log_level, settings.log_format)
    harden_process()
    os.umask(0o077)
    try:
        asyncio.run(_serve(settings))
    except (RpcError, CacheError, OSError) as error:
        sys.stderr.write(f"fusecache-csi: {error}\n")
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Mounts stay: pods go on reading. Raises: RpcError, CacheError, OSError."""
    make_passable(settings.state_dir)
    metrics = CallMetrics()
    server = Server(settings.endpoint, metrics)
    records = VolumeRecords(settings.state_dir / "volumes") if settings.has_controller else None
    custody = mounts = None
    unused: UnusedCaches | None = None
    if settings.has_node:
        if not settings.has_pods:
            _check_reachable(settings)
        custody = _custody(settings)
        mounts = _node_mounts(settings, custody)

    async def is_ready() -> bool:
        try:
            if custody is not None:
                await custody.mounts()
            if records is not None:
                records.check()
        except (CacheError, OSError) as error:
            log.warning("not ready: %s", error)
            return False
        return True

    health = Health(is_ready)
    csi_pb2_grpc.add_IdentityServicer_to_server(Identity(is_ready, has_controller=settings.has_controller), server.grpc)
    health.add_to(server.grpc)
    controller = None
    if records is not None:
        controller = Controller(records, Provisioning(), settings.nodes, may_modify=mounts is not None)
        csi_pb2_grpc.add_ControllerServicer_to_server(controller, server.grpc)
    if mounts is not None and custody is not None:
        modified = controller.modified if controller is not None else lambda volume_id: {}
        inline = InlineVolumes(
            NodeDirectories(settings.state_dir), _custody_root(settings), Roots(settings.allowed_roots), _places(settings)
        )
        csi_pb2_grpc.add_NodeServicer_to_server(Node(settings.node_id, mounts, inline, modified), server.grpc)
        _watch(metrics, mounts)
        if settings.has_pods:
            unused = UnusedCaches(NodeDirectories(settings.state_dir), inline, mounts.has, settings.keep_caches_seconds)
        await custody.ensure_running()
        await mounts.recover()
    await server.start()
    log.info("%s %s serves on %s", settings.mode, settings.node_id, settings.endpoint)
    async with contextlib.AsyncExitStack() as running:
        running.push_async_callback(server.stop)
        if settings.metrics is not None:
            metrics.serve(settings.metrics)
        if settings.plugins_registry is not None:
            registration = Registration(settings.plugins_registry, settings.kubelet_endpoint)
            await registration.start()
            running.push_async_callback(registration.stop)
            await running.enter_async_context(in_background(registration.watch()))
        await running.enter_async_context(in_background(health.watch()))
        if mounts is not None:
            await running.enter_async_context(in_background(mounts.watch()))
        if unused is not None:
            await running.enter_async_context(in_background(unused.watch()))
        await ended()


def _custody(settings: Settings) -> Custody:
    is_ours = settings.custody is None
    return Custody(_custody_root(settings), os.environ if is_ours else None, settings.grace_seconds)


def _custody_root(settings: Settings) -> Path:
    return settings.custody or NodeDirectories(settings.state_dir).custody


def _places(settings: Settings) -> NodePlaces:
    return NodePlaces(NodeDirectories(settings.state_dir), settings.cache_roots, settings.local_roots)


def _node_mounts(settings: Settings, custody: Custody) -> NodeMounts:
    directories = NodeDirectories(settings.state_dir)
    serving: Serving
    if settings.has_pods:
        serving = PodDaemons(directories, custody, _places(settings))
    else:
        serving = OwnDaemons(directories, custody, Daemons(os.environ, settings.daemon_user))
    return NodeMounts(directories, Roots(settings.allowed_roots), custody, serving)


def _watch(metrics: CallMetrics, mounts: NodeMounts) -> None:
    metrics.watch("datasets", "datasets that are mounted here", lambda: len(list(mounts.journal)))
    metrics.watch("publications", "bind mounts", lambda: sum(len(mount.publications) for mount in mounts.journal))
    metrics.watch("recoveries_total", "mounts and daemons that were gone and made anew", lambda: mounts.recoveries)
    metrics.watch("custody_descriptors", "descriptors that custody holds, when it was last asked", lambda: mounts.descriptors)


def _check_reachable(settings: Settings) -> None:
    """Raises: RpcError: the daemons cannot run as the user that was named."""
    needed = [sys.executable, os.__file__, __file__, str(settings.state_dir / "run")]
    if (directory := shut_out(settings.daemon_user, needed)) is not None:
        raise refused(
            f"cache daemons cannot run as user {settings.daemon_user}: {directory} shuts it out; install Python and fusecache"
            " where all users get to them, choose another --state-dir, or let them be root with --daemon-user 0"
        )
