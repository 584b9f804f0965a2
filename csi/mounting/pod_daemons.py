"""Mounts that are served by cache pods: custody has them made when such a pod comes, and a daemon in it takes them from there.

State: since when custody lacks the descriptors of a mount, and what it answered last. Used from one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from csi.mounting import control
from csi.mounting.custody import Custody, Held, MountOrder
from csi.mounting.journal import DatasetMount
from csi.mounting.node_places import NodePlaces
from csi.mounting.ownership import make_mountpoint
from csi.mounting.plan import NodeDirectories
from csi.mounting.serving import Served, StageRequest, Wanted
from csi.volumes import dataset_reference
from csi.volumes.dataset_reference import DatasetReference
from csi.volumes.inline import InlineVolume
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Verify
from fusecache.contract.run_files import PROBLEM

log = logging.getLogger(__name__)

WAIT_SECONDS = 100.0  # kubelet gives a call two minutes
LOOK_SECONDS = 0.1
BRING_BACK_SECONDS = 3.0  # a daemon that lives brings descriptors back within 0.1 s; one that does not answer has this long
ANSWERING_SECONDS = 60.0  # and one that answers: on a node without time to spare, custody takes a while for many
MAX_PROBLEM_BYTES = 1000


class PodDaemons:
    """See serving.Serving."""

    has_pods = True

    def __init__(self, directories: NodeDirectories, custody: Custody, places: NodePlaces) -> None:
        self._places = places
        self._custody = custody
        self._directories = directories
        self._lost_since: dict[str, float] = {}
        self._asking = asyncio.Lock()
        self._last: dict[str, Held] = {}
        self._asked_at = -LOOK_SECONDS

    def wanted(self, request: StageRequest) -> Wanted:
        reference = dataset_reference.parse(request.context)
        what = json.dumps([reference.namespace, reference.name, reference.path, request.read_only])
        asked = hashlib.sha256(what.encode()).hexdigest()[:24]
        return Wanted(reference.id, asked, reference.path, reference.to_context(), request.read_only)

    def new_mount(self, wanted: Wanted) -> DatasetMount:
        return DatasetMount(wanted.dataset, wanted.context, read_only=False)

    def run_dir(self, dataset: str) -> str:
        """Where custody listens for the daemon, which has its own sockets there, too."""
        return self._custody.socket_directory(dataset)

    def mount_for_pod(self, volume: InlineVolume) -> DatasetMount:
        order = MountOrder(
            id=volume.id,
            mountpoint=str(self._directories.mountpoint(volume.id)),
            serve_count=volume.mount.serve_processes,
            read_write=volume.mount.read_write,
            allow_other=True,
            uid=volume.uid,
            tiers=tuple(str(self._places.tier_path(volume, tier)) for tier in volume.mount.tiers),
            passthrough=volume.mount.verify is not Verify.ALWAYS,
        )
        context = DatasetReference(volume.namespace, volume.dataset).to_context()
        return DatasetMount(volume.id, context, read_only=False, order=dataclasses.asdict(order))

    # -- waiting

    async def wait_ready(self, context: Mapping[str, str]) -> None:
        """Raises: TIMEOUT with what was missing to the end."""
        reference = dataset_reference.parse(context)
        missing = ""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    missing = await self._what_is_missing(reference)
                    if not missing:
                        return
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise CacheError(ErrorKind.TIMEOUT, missing or "custody did not answer: see its log") from None

    async def _what_is_missing(self, reference: DatasetReference) -> str:
        """Return a sentence of cause and cure; "" if a daemon answers in the mount."""
        try:
            held = (await self._recent_mounts()).get(reference.id)
        except CacheError as error:
            return str(error)
        if held is not None and held.is_served:
            return ""
        whose = f"Dataset {reference.namespace}/{reference.name}"
        pods = f"the pods {reference.name}-fuse-... of namespace {reference.namespace}"
        if held is None:
            return f"no cache pod of {whose} has come to this node: see with kubectl describe why {pods} do not start here"
        problem = self._problem(reference.id)
        if problem:
            return f"the cache pod of {whose} cannot serve: {problem}"
        if not held.has_daemon:
            return f"the cache pod of {whose} has not taken its mount: see with kubectl logs what {pods} say"
        return f"the cache pod of {whose} does not answer yet, which takes as long as its source: see the logs of {pods}"

    async def _recent_mounts(self) -> dict[str, Held]:
        """Many may wait: custody is asked once for all of them. Raises: CacheError."""
        loop = asyncio.get_running_loop()
        async with self._asking:
            if loop.time() - self._asked_at >= LOOK_SECONDS / 2:
                self._last = await self._custody.mounts()
                self._asked_at = loop.time()
            return self._last

    def _problem(self, dataset: str) -> str:
        """Return what the pod says of itself. It is not trusted: neither as to what lies there, nor what is in it."""
        with contextlib.suppress(OSError):
            fd = os.open(Path(self.run_dir(dataset), PROBLEM), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    said = file.read(MAX_PROBLEM_BYTES).decode(errors="replace")
                    return "".join(letter if letter.isprintable() else " " for letter in said)
        return ""

    # -- the mount

    async def ensure(self, mount: DatasetMount, secrets: Mapping[str, str]) -> Served:
        """What is missing has been waited for: if it is not there now, the caller asks again. Secrets are the pods' business."""
        held = (await self._custody.mounts()).get(mount.id)
        if held is None or not held.is_served:
            raise CacheError(ErrorKind.UNAVAILABLE, f"the cache pod of {mount.id} has gone meanwhile: ask again")
        return Served(held.mountpoint, held.device)

    async def hold(self, mount: DatasetMount) -> Served:
        order = MountOrder.of_json(mount.order)
        make_mountpoint(Path(order.mountpoint))
        await self._custody.ensure_running()
        try:
            device = await self._custody.mount(order)
        except CacheError as error:
            if error.kind is not ErrorKind.EXISTS:
                raise
            if mount.volumes and (held := (await self._custody.mounts()).get(mount.id)) is not None:
                log.warning(
                    "pods use the mount of %s: it stays as it is until they have gone, and is then made as asked", mount.id
                )
                return Served(held.mountpoint, held.device, held.is_served)
            await self._custody.unmount(mount.id)
            device = await self._custody.mount(order)
        return Served(order.mountpoint, device, answers=False)

    async def restore(self, mount: DatasetMount) -> Served | None:
        """A mount that nobody can serve any more is made anew, unless it had no daemon for too long and no pod comes."""
        if not mount.order:
            return None
        held = (await self._recent_mounts()).get(mount.id)
        if held is None or not held.is_fine or held.device != mount.device:  # then it has to be as it is now
            held = (await self._custody.mounts()).get(mount.id)
        if held is not None and held.is_fine:
            self._lost_since.pop(mount.id, None)
            return None if held.device == mount.device else Served(held.mountpoint, held.device, held.is_served)
        if held is not None and not held.is_held:
            now = asyncio.get_running_loop().time()
            lost = now - self._lost_since.setdefault(mount.id, now)
            if lost < BRING_BACK_SECONDS or not mount.holders:
                return None
            if lost < ANSWERING_SECONDS and await control.answers(self.run_dir(mount.id)):
                return None
        log.warning("the mount of dataset %s is gone: it is made anew", mount.id)
        self._lost_since.pop(mount.id, None)
        if held is not None:
            await self._custody.unmount(mount.id, abort=True)
        return await self.hold(mount)

    async def end(self, mount: DatasetMount) -> None:
        """No pod has its directory any more: what a daemon has left there goes, too. The cache stays."""
        run_dir = self.run_dir(mount.id)
        self._lost_since.pop(mount.id, None)
        await self._custody.ensure_running()
        await self._custody.unmount(mount.id, abort=not await control.answers(run_dir))
        shutil.rmtree(run_dir, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._directories.mountpoint(mount.id).rmdir()
