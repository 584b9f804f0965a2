"""Stages and publishes: brings mounts, bind mounts and journal to what was asked for, whatever was there before.

Owns the journal and the daemons of the node. Every step may be repeated; the journal is written before what it tells of is made,
and after it is gone. What touches a mount that a daemon has to answer for runs in a thread, under the deadline of the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from csi import VERSION
from csi.errors import RpcError, exists, not_found, refused
from csi.mounting import binds
from csi.mounting.custody import Custody
from csi.mounting.daemons import Daemons, record_of
from csi.mounting.journal import DatasetMount, Journal, Publication, StagedVolume
from csi.mounting.ownership import make_owned, make_passable
from csi.mounting.paths import Roots
from csi.mounting.plan import NodeDirectories, dataset_of, default_quota, spec_of
from csi.volumes import parameters as volume_parameters
from csi.volumes import secrets as volume_secrets
from csi.volumes.parameters import Parameters
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
USAGE_SECONDS = 9.0  # to count the files of a directory, some million a second
END_SECONDS = 5.0  # that daemons may take to end
WRITES_SECONDS = 100.0  # to wait for files that are not in the store yet, before the last volume of a mount is unstaged


class NodeMounts:
    def __init__(self, directories: NodeDirectories, roots: Roots, custody: Custody, daemons: Daemons) -> None:
        self._custody = custody
        self._directories = directories
        self._roots = roots
        self._daemons = daemons
        self.journal = Journal(directories.journal)
        self._locks: dict[str, asyncio.Lock] = {}
        self._not_upgraded: set[str] = set()
        self.recoveries = 0

    @property
    def descriptors(self) -> int:
        return self._custody.descriptors

    # -- stage

    async def stage(
        self,
        volume_id: str,
        staging: str,
        parameters: Parameters,
        modified: Mapping[str, str],
        secrets: Mapping[str, str],
        *,
        read_only: bool,
    ) -> None:
        """Return when the mount that serves the volume answers. `modified`: settings that were changed since the volume was made.

        Raises: RpcError, CacheError."""
        with self._roots.place(staging, "staging_target_path"):
            pass
        identity = volume_secrets.identity_of(secrets)
        asked = dataset_of(parameters, identity, read_only=read_only) + parameters.directory
        staged = StagedVolume(asked, staging, parameters.directory, read_only)
        before = self.journal.of_volume(volume_id)
        parameters = dataclasses.replace(parameters, settings={**parameters.settings, **modified})
        dataset = dataset_of(parameters, identity, read_only=read_only) if before is None else before.id
        if before is not None and before.volumes[volume_id].asked != asked:
            raise exists(f"volume {volume_id} is staged already, with other parameters or for another access mode")
        async with self._lock(dataset):
            mount = self.journal.get(dataset)
            if mount is None:
                context = dataclasses.replace(parameters, directory="").to_context()
                mount = DatasetMount(dataset, context, read_only, default_quota=default_quota(self._directories))
            mount = self.journal.put(dataclasses.replace(mount, volumes={**mount.volumes, volume_id: staged}))
            try:
                if secrets:
                    make_owned(self._directories.secrets(dataset), self._daemons.user)
                    volume_secrets.write_files(self._directories.secrets(dataset), secrets, self._daemons.user)
                await self._ensure_running(mount)
            except BaseException:
                if before is None:
                    await self._forget_volume(mount, volume_id)
                raise

    async def _ensure_running(self, mount: DatasetMount) -> None:
        """With the lock held: custody has the mount, and a daemon serves it."""
        if self._is_running(mount.id):
            return
        spec = self._spec(mount)
        make_passable(Path(spec.mountpoint))
        for path in (spec.state_dir, *(tier.path for tier in spec.tiers)):
            make_owned(Path(path), self._daemons.user)
        await self._custody.ensure_running()
        await self._custody.mount(spec)
        await self._custody.note_use(mount.id, sorted(mount.volumes))
        before = record_of(spec.run_dir)  # a supervisor that cannot start removes it
        try:
            await self._daemons.start(spec, self._custody.socket_directory(mount.id))
        except CacheError as error:
            held = (await self._custody.mounts()).get(mount.id)
            if error.kind is not ErrorKind.UNAVAILABLE or held is None or held.is_held:
                raise
            log.warning("custody and the daemon of dataset %s are both gone: the mount is made anew", mount.id)
            await self._custody.unmount(mount.id)
            self._daemons.end_remains(spec.run_dir, before)
            await self._custody.mount(spec)
            await self._daemons.start(spec, self._custody.socket_directory(mount.id))

    def _spec(self, mount: DatasetMount) -> MountSpec:
        context = volume_parameters.parse(mount.context)
        secret_files = {
            f"{path.name}_file": str(path) for path in self._directories.secrets(mount.id).glob("[a-z]*") if path.is_file()
        }
        return spec_of(mount.id, context, secret_files, self._directories, mount.default_quota, read_only=mount.read_only)

    def _is_running(self, dataset: str) -> bool:
        record = record_of(str(self._directories.run / dataset))
        return record is not None and record.is_supervised and record.is_mounted and record.state in ("ready", "degraded")

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
            await self._forget_volume(mount, volume_id)

    async def _forget_volume(self, mount: DatasetMount, volume_id: str) -> None:
        """With the lock held. The last one takes the mount with it."""
        left = {name: one for name, one in mount.volumes.items() if name != volume_id}
        if left:
            self.journal.put(dataclasses.replace(mount, volumes=left))
            return
        await self._end(mount.id)
        shutil.rmtree(self._directories.secrets(mount.id), ignore_errors=True)
        self.journal.remove(mount.id)

    async def _end(self, dataset: str) -> None:
        """Take the mount away; its daemon uploads what was written, and ends. Raises: FAILED_PRECONDITION if that takes long."""
        run_dir = str(self._directories.run / dataset)
        await self._custody.ensure_running()
        answers = await self._answers(run_dir)
        await self._custody.unmount(dataset, abort=not answers)
        has_ended = await self._daemons.wait_ended(run_dir, END_SECONDS if answers else 0.0)
        if not has_ended and await self._is_uploading(run_dir):
            has_ended = await self._daemons.wait_ended(run_dir, WRITES_SECONDS)
            if not has_ended:
                raise refused(f"files that were written to dataset {dataset} are still being uploaded: ask again")
        self._daemons.end_remains(run_dir)
        self._free_memory(dataset)
        with contextlib.suppress(OSError):
            self._directories.mountpoint(dataset).rmdir()

    def _free_memory(self, dataset: str) -> None:
        directory = self._directories.memory(dataset)
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            directory.parent.rmdir()

    async def _answers(self, run_dir: str) -> bool:
        try:
            return bool(await self._daemons.ask(run_dir, {"do": "status"}))
        except CacheError:
            return False

    async def _is_uploading(self, run_dir: str) -> bool:
        """Whether there is something to wait for. A daemon that hangs uploads nothing: what it has is left to the next one."""
        try:
            return bool((await self._daemons.ask(run_dir, {"do": "status"})).get("pending_files"))
        except CacheError:
            return False

    # -- publish

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
                await self._ensure_running(mount)
                record = record_of(str(self._directories.run / mount.id))
                assert record is not None
                top = await asyncio.to_thread(binds.mounted_at, place)
                if top is not None and top.device == record.device and other is not None:
                    return
                self.journal.put(dataclasses.replace(mount, publications={**mount.publications, target: wanted}))
                try:
                    await self._look_up(record.run_dir, wanted.directory)
                    await asyncio.to_thread(
                        binds.bind, record.mountpoint, record.device, wanted.directory, place, read_only=wanted.read_only
                    )
                except BaseException:
                    if other is None:
                        self.journal.put(mount)
                    if top is None:
                        place.remove()
                    raise

    async def _look_up(self, run_dir: str, directory: str) -> None:
        """A directory may have been made at the source since the mount listed it."""
        if directory:
            await self._daemons.ask(run_dir, {"do": "look", "paths": [directory]})

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
        return await self._daemons.ask(str(self._directories.run / mount.id), {"do": "status"})

    async def usage_of(self, volume_id: str) -> dict[str, object]:
        """Return bytes and files of the volume's directory, as far as they were listed. Raises: RpcError, CacheError."""
        mount = self.journal.of_volume(volume_id)
        if mount is None:
            raise not_found(f"volume {volume_id} is not on this node")
        run_dir = str(self._directories.run / mount.id)
        directory = mount.volumes[volume_id].directory
        if not directory:  # of the whole dataset the daemon keeps the sums
            return await self._daemons.ask(run_dir, {"do": "status"})
        try:
            return await self._daemons.ask(run_dir, {"do": "usage", "paths": [directory]}, USAGE_SECONDS)
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
        for mount in self.journal:
            try:
                async with self._lock(mount.id):
                    await self._recover(mount.id)
            except (RpcError, CacheError, OSError) as error:
                log.error("dataset %s cannot be mounted again: %s", mount.id, error)

    async def _recover(self, dataset: str) -> None:
        mount = self.journal.get(dataset)
        if mount is None:
            return
        if self._is_running(dataset):
            return await self._upgrade(mount)
        log.warning("dataset %s of %d volumes has no daemon, and gets one", dataset, len(mount.volumes))
        before = record_of(str(self._directories.run / dataset))
        await self._ensure_running(mount)
        self.recoveries += 1
        record = record_of(str(self._directories.run / dataset))
        assert record is not None
        if before is not None and before.device == record.device:
            return  # custody had the mount: whoever reads has waited
        for target, one in mount.publications.items():
            try:
                with self._roots.place(target, "target_path") as place:
                    await asyncio.to_thread(
                        binds.bind, record.mountpoint, record.device, one.directory, place, read_only=one.read_only
                    )
            except (RpcError, OSError) as error:
                log.error("volume %s cannot be bound again at %s: %s", one.volume, target, error)

    async def _upgrade(self, mount: DatasetMount) -> None:
        """Let a daemon of our version take over from one of another. One that cannot go on says so first: it is asked once."""
        record = record_of(str(self._directories.run / mount.id))
        if record is None or record.version == VERSION or mount.id in self._not_upgraded:
            return
        log.info("the daemon of dataset %s has version %s: one of version %s takes over", mount.id, record.version, VERSION)
        try:
            await self._daemons.start(self._spec(mount), self._custody.socket_directory(mount.id))
        except CacheError as error:
            self._not_upgraded.add(mount.id)
            log.error("version %s of the daemon of dataset %s stays: %s", record.version, mount.id, error)

    async def watch(self) -> None:
        """Look after the mounts for ever."""
        while True:
            try:
                await self._custody.ensure_running()
                await self.recover()
            except CacheError as error:
                log.error("%s", error)
            await asyncio.sleep(LOOK_SECONDS)

    @contextlib.asynccontextmanager
    async def _lock(self, dataset: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(dataset, asyncio.Lock())
        async with lock:
            yield
