"""Stages and publishes: brings mounts, bind mounts and journal to what was asked for, whatever was there before.

Owns the journal. Who serves a mount, daemons of the driver's own or those of pods, is `serving`'s business. Every step may be
repeated; the journal is written before what it tells of is made, and after it is gone. What touches a mount that a daemon has to
answer for runs in a thread, under the deadline of the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping

from csi.errors import RpcError, exists, not_found, refused
from csi.mounting import binds, control, slow_calls
from csi.mounting.custody import Custody
from csi.mounting.journal import DatasetMount, Journal, Publication, StagedVolume
from csi.mounting.paths import Place, Roots
from csi.mounting.plan import NodeDirectories
from csi.mounting.serving import Served, Serving, StageRequest
from csi.volumes.inline import Directory, InlineVolume
from fusecache.contract.errors import CacheError, ErrorKind

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
BIND_SECONDS = 10.0  # for a daemon to say what a directory is
BIND_AGAIN_SECONDS = 30.0  # after a bind that failed
USAGE_SECONDS = 9.0  # to count the files of a directory, some million a second


class NodeMounts:
    def __init__(self, directories: NodeDirectories, roots: Roots, custody: Custody, serving: Serving) -> None:
        self._custody = custody
        self._roots = roots
        self._serving = serving
        self.journal = Journal(directories.journal)
        self._locks: dict[str, asyncio.Lock] = {}
        self._complaints: dict[str, str] = {}
        self._bind_again_at: dict[str, tuple[str, float]] = {}  # by dataset: the device where a bind failed; monotonic
        self.recoveries = 0

    @property
    def descriptors(self) -> int:
        return self._custody.descriptors

    def has(self, dataset: str) -> bool:
        """Whether a Dataset's id has volumes here."""
        return self.journal.get(dataset) is not None

    # -- stage

    async def wait_ready_to_stage(self, request: StageRequest) -> None:
        """Wait for what others have to do first. Cancellation: nothing was begun. Raises: RpcError, CacheError."""
        await self._serving.wait_ready(request.context)

    async def stage(self, volume_id: str, staging: str, request: StageRequest) -> None:
        """Return when the mount that serves the volume answers. Raises: RpcError, CacheError."""
        with self._roots.place(staging, "staging_target_path"):
            pass
        wanted = self._serving.wanted(request)
        staged = StagedVolume(wanted.asked, staging, wanted.directory, wanted.read_only)
        before = self.journal.of_volume(volume_id)
        dataset = wanted.dataset if before is None else before.id
        if before is not None and before.volumes[volume_id].asked != wanted.asked:
            raise exists(f"volume {volume_id} is staged already, with other parameters or for another access mode")
        async with self._lock(dataset):
            mount = self.journal.get(dataset) or self._serving.new_mount(wanted)
            mount = self.journal.put(dataclasses.replace(mount, volumes={**mount.volumes, volume_id: staged}))
            try:
                await self._ensure(mount, request.secrets)
            except BaseException:
                if before is None:
                    await self._forget_volume(volume_id)
                raise

    async def _ensure(self, mount: DatasetMount, secrets: Mapping[str, str] | None = None) -> tuple[DatasetMount, Served]:
        """With the lock held: the mount is there, a daemon serves it, and what was published is bound to it."""
        served = await self._serving.ensure(mount, secrets or {})
        return await self._bind_if_other(mount, served), served

    async def _bind_if_other(self, mount: DatasetMount, served: Served) -> DatasetMount:
        return mount if mount.device == served.device else await self._bind_again(mount, served)

    async def _bind_again(self, mount: DatasetMount, served: Served) -> DatasetMount:
        """Bind what is published over what was bound to a mount before this one. Return the mount as it is in the journal.

        What is a directory in the mount is left for another time while nobody answers there. Each place is looked at: a number
        of a device may be that of a mount that is gone."""
        failed = False
        for target, one in mount.publications.items():
            if one.directory and not served.answers:
                failed = True
            elif problem := await self._bind_published(target, one, served):
                self._complain(target, f"volume {one.volume} cannot be bound again at {target}: {problem}")
                failed = True
            else:
                self._complaints.pop(target, None)
        if failed:
            if served.answers:
                self._bind_again_at[mount.id] = served.device, time.monotonic() + BIND_AGAIN_SECONDS
            return mount
        self._bind_again_at.pop(mount.id, None)
        return self.journal.put(dataclasses.replace(mount, device=served.device))

    async def _bind_published(self, target: str, one: Publication, served: Served) -> str:
        """Return why what is published cannot be bound to the mount that is there now; "" if it is, or its place is gone."""
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(self._roots.place(target, "target_path"))
            except RpcError as error:
                return "" if error.code.name == "NOT_FOUND" else str(error)
            try:
                top = await asyncio.to_thread(binds.mounted_at, place)
                if top is None or top.device != served.device:
                    await self._bind(served, one, place)
            except (RpcError, CacheError, OSError) as error:
                return str(error)
        return ""

    async def _bind(self, served: Served, one: Publication, place: Place) -> None:
        """With the lock held, which a cache pod may wait for that alone could answer: so not for long. Raises: RpcError,
        CacheError(TIMEOUT), OSError."""
        source = functools.partial(binds.open_source, served.mountpoint, served.device, one.directory)
        try:
            tree = await slow_calls.in_time(BIND_SECONDS, source, os.close)
        except TimeoutError:
            raise CacheError(
                ErrorKind.TIMEOUT, f"the mount at {served.mountpoint} did not answer for {BIND_SECONDS:g} s"
            ) from None
        await asyncio.to_thread(binds.attach, tree, place, read_only=one.read_only)

    async def unstage(self, volume_id: str, staging: str) -> None:
        """Return when nothing of the volume is on the node. Raises: FAILED_PRECONDITION while it is published."""
        with contextlib.suppress(RpcError), self._roots.place(staging, "staging_target_path"):
            pass
        mount = self.journal.of_volume(volume_id)
        if mount is None:
            return
        async with self._lock(mount.id):
            mount = self.journal.of_volume(volume_id)
            if mount is None:
                return
            targets = [target for target, one in mount.publications.items() if one.volume == volume_id]
            if targets:
                raise refused(f"volume {volume_id} is still published at {', '.join(sorted(targets)[:3])}")
            await self._forget_volume(volume_id)

    async def _forget_volume(self, volume_id: str) -> None:
        """With the lock held."""
        mount = self.journal.of_volume(volume_id)
        if mount is not None:
            left = {name: one for name, one in mount.volumes.items() if name != volume_id}
            await self._put_or_end(dataclasses.replace(mount, volumes=left))

    async def _put_or_end(self, mount: DatasetMount) -> None:
        """With the lock held. The last volume, or pod, takes the mount with it."""
        if mount.is_needed:
            mount = self.journal.put(mount)
            if not mount.volumes and mount.order:
                await self._make_as_ordered(mount)
            return
        await self._serving.end(mount)
        self.journal.remove(mount.id)

    async def _make_as_ordered(self, mount: DatasetMount) -> None:
        """Nobody uses the mount any more, which may have stayed as it was because somebody did."""
        try:
            await self._bind_if_other(mount, await self._serving.hold(mount))
        except (RpcError, CacheError) as error:
            log.warning("the mount of dataset %s stays as it is: %s", mount.id, error)

    # -- the directories of custody in cache pods

    def is_held_at(self, target: str) -> bool:
        return self.journal.of_holder(target) is not None

    async def hold(self, volume: InlineVolume, target: str, publish: Callable[[], None]) -> None:
        """Publish a directory of a cache pod at a path, and have the mount of its dataset there if the directory is custody's.
        Idempotent; where daemons are the driver's own, no mount is held. Raises: RpcError, CacheError, what `publish` raises.

        `publish` is called with the lock of the dataset held: the last pod takes custody's directory with it, and a pod that came
        meanwhile had one that was no longer there, with which its container never starts."""
        if volume.directory is not Directory.CUSTODY or not self._serving.has_pods:
            publish()
            return
        new = self._serving.mount_for_pod(volume)
        async with self._lock(new.id):
            publish()
            before = self.journal.get(new.id)
            holders = tuple(dict.fromkeys((*(before.holders if before else ()), target)))
            mount = self.journal.put(dataclasses.replace(before or new, order=new.order, holders=holders))
            try:
                await self._bind_if_other(mount, await self._serving.hold(mount))
            except BaseException:
                if before is None:
                    await self._put_or_end(dataclasses.replace(mount, holders=()))
                else:
                    self.journal.put(before)
                raise

    async def release(self, target: str) -> None:
        """The pod's directory is gone. Its mount stays for pods that use it, until they are gone, too. Raises: as `hold`."""
        mount = self.journal.of_holder(target)
        if mount is None:
            return
        async with self._lock(mount.id):
            mount = self.journal.of_holder(target)
            if mount is not None:
                left = tuple(one for one in mount.holders if one != target)
                await self._put_or_end(dataclasses.replace(mount, holders=left))

    # -- publish

    async def wait_ready_to_publish(self, volume_id: str) -> None:
        """As `wait_ready_to_stage`."""
        mount = self.journal.of_volume(volume_id)
        if mount is not None:
            await self._serving.wait_ready(mount.context)

    async def publish(self, volume_id: str, target: str, mode: int, *, read_only: bool, is_single: bool) -> None:
        """Bind the volume at a path. `is_single`: at no other. Raises: RpcError, CacheError."""
        mount = self.journal.of_volume(volume_id)
        if mount is None:
            raise refused(f"volume {volume_id} is not staged on this node")
        async with self._lock(mount.id):
            mount = self.journal.of_volume(volume_id)
            if mount is None:
                raise refused(f"volume {volume_id} is not staged on this node")
            staged = mount.volumes[volume_id]
            wanted = Publication(volume_id, staged.directory, read_only or staged.read_only, mode)
            with self._roots.place(target, "target_path") as place:
                other = self.journal.at_target(target)
                if other is not None and other[1] != wanted:
                    raise exists(f"{target} has a volume published already, or this one in another way: unpublish it first")
                elsewhere = [at for at, one in mount.publications.items() if one.volume == volume_id and at != target]
                if is_single and elsewhere:
                    raise refused(f"volume {volume_id} is published at {elsewhere[0]}, and its access mode allows one writer")
                mount, served = await self._ensure(mount)
                top = await asyncio.to_thread(binds.mounted_at, place)
                if top is not None and top.device == served.device and other is not None:
                    return
                self.journal.put(dataclasses.replace(mount, publications={**mount.publications, target: wanted}))
                try:
                    await self._look_up(mount.id, wanted.directory)
                    await self._bind(served, wanted, place)
                except BaseException:
                    if other is None:
                        self.journal.put(mount)
                    if top is None:
                        place.remove()
                    raise

    async def _look_up(self, dataset: str, directory: str) -> None:
        """A directory may have been made at the source since the mount listed it."""
        if directory:
            await control.ask(self._serving.run_dir(dataset), {"do": "look", "paths": [directory]})

    async def unpublish(self, volume_id: str, target: str) -> None:
        """Return when nothing is mounted at the path, and the directory is gone."""
        known = self.journal.at_target(target)
        if known is not None and known[1].volume != volume_id:
            raise not_found(f"{target} has volume {known[1].volume}, and not {volume_id}")
        lock = self._lock(known[0].id) if known is not None else contextlib.nullcontext()
        async with lock:
            try:
                with self._roots.place(target, "target_path") as place:
                    await asyncio.to_thread(binds.unbind, place)
                    place.remove()
            except RpcError as error:
                if error.code.name != "NOT_FOUND":
                    raise
            self._complaints.pop(target, None)
            mount = None if known is None else self.journal.get(known[0].id)
            if mount is not None:
                left = {at: one for at, one in mount.publications.items() if at != target}
                self.journal.put(dataclasses.replace(mount, publications=left))

    # -- looking

    async def status_of(self, volume_id: str) -> dict[str, object]:
        """Return what the daemon of the volume says of itself. Raises: RpcError, CacheError."""
        mount = self.journal.of_volume(volume_id)
        if mount is None:
            raise not_found(f"volume {volume_id} is not on this node")
        return await control.ask(self._serving.run_dir(mount.id), {"do": "status"})

    async def usage_of(self, volume_id: str) -> dict[str, object]:
        """Return bytes and files of the volume's directory, as far as they were listed. Raises: RpcError, CacheError."""
        mount = self.journal.of_volume(volume_id)
        if mount is None:
            raise not_found(f"volume {volume_id} is not on this node")
        run_dir = self._serving.run_dir(mount.id)
        directory = mount.volumes[volume_id].directory
        if not directory:  # of the whole dataset the daemon keeps the sums
            return await control.ask(run_dir, {"do": "status"})
        try:
            return await control.ask(run_dir, {"do": "usage", "paths": [directory]}, USAGE_SECONDS)
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            return {}  # nobody has published it yet

    def has_path(self, volume_id: str, path: str) -> bool:
        mount = self.journal.of_volume(volume_id)
        if mount is None:
            return False
        published = mount.publications.get(path)
        return (published is not None and published.volume == volume_id) or mount.volumes[volume_id].staging == path

    # -- recovery

    async def recover(self) -> None:
        """Make every mount of the journal anew that is gone, and bind it again over its targets. What fails is tried again."""
        await asyncio.gather(*(self._recover(mount.id) for mount in self.journal))

    async def _recover(self, dataset: str) -> None:
        if self._lock_of(dataset).locked():  # whoever has it is at work there, and may wait for long: it is looked at later
            return
        try:
            async with self._lock(dataset):
                mount = self.journal.get(dataset)
                if mount is None:
                    return
                served = await self._serving.restore(mount)
                of_last, again_at = self._bind_again_at.get(dataset, ("", 0.0))
                if served is not None and not (served.device == of_last and time.monotonic() < again_at):
                    mount = await self._bind_again(mount, served)
                    self.recoveries += mount.device == served.device
            self._complaints.pop(dataset, None)
        except (RpcError, CacheError, OSError) as error:
            self._complain(dataset, f"dataset {dataset} cannot be mounted again: {error}")
        except Exception as error:  # of whatever kind: nobody else looks after the mounts
            self._complain(dataset, f"dataset {dataset} cannot be mounted again: {error!r}")

    def _complain(self, about: str, message: str) -> None:
        """Log it once, and not each time that it is tried again."""
        if self._complaints.get(about) != message:
            self._complaints[about] = message
            log.error("%s", message)

    async def watch(self) -> None:
        """Look after the mounts for ever. One that takes long keeps no other waiting."""
        under_way: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                try:
                    await self._custody.ensure_running()
                    self._complaints.pop("custody", None)
                    under_way = {dataset: task for dataset, task in under_way.items() if not task.done()}
                    for mount in self.journal:
                        if mount.id not in under_way:
                            under_way[mount.id] = asyncio.create_task(self._recover(mount.id))
                except Exception as error:  # as in `_recover`
                    self._complain("custody", str(error) if isinstance(error, CacheError) else repr(error))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in under_way.values():
                task.cancel()
            await asyncio.gather(*under_way.values(), return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _lock(self, dataset: str) -> AsyncIterator[None]:
        async with self._lock_of(dataset):
            yield

    def _lock_of(self, dataset: str) -> asyncio.Lock:
        return self._locks.setdefault(dataset, asyncio.Lock())
