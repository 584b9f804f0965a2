"""The operator as a process: takes the Lease, watches, looks at Datasets, until it is told to end or loses the Lease.

State: none of its own. Started by `fusecache-csi operator` (csi/program.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from functools import partial

import kopf
from lightkube import AsyncClient

from csi.operator.app.daemons import Daemons
from csi.operator.app.definitions_check import check_definitions
from csi.operator.app.events import Events
from csi.operator.app.known import Key, Known
from csi.operator.app.load_jobs import LoadJobs
from csi.operator.app.loads import Loads
from csi.operator.app.lost_sight import LostSight
from csi.operator.app.metrics import OperatorMetrics
from csi.operator.app.operation_keys import OperationKey
from csi.operator.app.operations import Operations
from csi.operator.app.pod_watch import PodWatch
from csi.operator.app.reconciler import Reconciler
from csi.operator.app.watching import Watcher, make_registry, make_settings, prime
from csi.operator.leader import Leadership
from csi.operator.objects import Objects
from csi.operator.render.surroundings import Installation
from csi.operator.resolve.allowed_roots import NO_ROOTS, AllowedRoots
from csi.operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

LEASE = "fusecache-operator"


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """`namespace`: of the Lease. `shares_nodes`: Datasets without `placement` let others cache on their nodes. `roots`: below
    which users may name directories of nodes. `metrics`: address and port where Prometheus may ask."""

    namespace: str
    installation: Installation
    shares_nodes: bool = True
    roots: AllowedRoots = NO_ROOTS
    workers: int = 4
    metrics: tuple[str, int] | None = None


async def run_operator(settings: OperatorSettings, ended: asyncio.Event) -> None:
    """Return when `ended` is set. Raises: an ExceptionGroup of LostError, ForeignDefinitionsError or ApiError."""
    async with contextlib.AsyncExitStack() as stack:
        client = AsyncClient()
        stack.push_async_callback(client.aclose)
        metrics, known = OperatorMetrics(), Known()
        if settings.metrics is not None:
            metrics.serve(settings.metrics)
        daemons = await stack.enter_async_context(Daemons())
        identity = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        leadership = Leadership(client, settings.namespace, LEASE, identity, note=metrics.note_call)
        objects = Objects(client, metrics.note_call, known.note_merged, leadership.check)
        if not await _unless(ended, leadership.acquire()):
            return
        stack.push_async_callback(leadership.release)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(leadership.keep())  # already now: to read all of a large cluster takes a while
            await check_definitions(objects)
            log.info("%s is the operator", identity)
            await _operate(settings, objects, known, metrics, daemons, ended)
            keeping.cancel()


async def _operate(
    settings: OperatorSettings, objects: Objects, known: Known, metrics: OperatorMetrics, daemons: Daemons, ended: asyncio.Event
) -> None:
    """Read what there is, and work, until `ended` is set."""
    events = Events(objects)
    reconciler = Reconciler(
        objects,
        known,
        events,
        daemons,
        settings.installation,
        shares_nodes=settings.shares_nodes,
        roots=settings.roots,
    )
    queue: WorkQueue[Key] = WorkQueue(reconciler.look, settings.workers, partial(metrics.note_look, "datasets"))
    loads = Loads(objects, known, events, LoadJobs(objects, daemons, settings.installation), queue.add)
    operations: WorkQueue[OperationKey] = WorkQueue(
        Operations(objects, events, loads).look, settings.workers, partial(metrics.note_look, "operations")
    )
    watcher = Watcher(known, queue.add, operations.add)
    lost = LostSight(objects, watcher)
    pods = PodWatch(objects, known, queue.add, lost.look_soon)
    metrics.note_leading()
    metrics.watch_datasets(known)
    metrics.watch_queue("datasets", lambda: queue.depth)
    metrics.watch_queue("operations", lambda: operations.depth)
    for key in await prime(objects, known):
        queue.add(key)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        works = (queue.run(), operations.run(), pods.run(), lost.run())
        tasks = [group.create_task(work) for work in works]
        # It takes the signals of the process for itself, and returns when one comes.
        watching = kopf.operator(
            registry=make_registry(watcher),
            settings=make_settings(),
            clusterwide=True,
            standalone=True,
            stop_flag=stop,
        )
        await _unless(ended, watching)
        stop.set()
        for task in tasks:
            task.cancel()


async def _unless(ended: asyncio.Event, work: object) -> bool:
    """Wait for work to be done; return False if we are to end before."""
    doing = asyncio.ensure_future(work)  # type: ignore[call-overload]
    ending = asyncio.ensure_future(ended.wait())
    await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    return False
