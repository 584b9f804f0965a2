"""Mounts that are served by daemons of the driver's own: a supervisor for each, with the volume's source, options and secrets.

Owns directories, secrets and processes of each dataset. Used from one event loop, under the lock of the dataset.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from csi import VERSION
from csi.errors import refused
from csi.mounting import control
from csi.mounting.custody import Custody, MountOrder
from csi.mounting.daemons import Daemons, record_of
from csi.mounting.journal import DatasetMount
from csi.mounting.ownership import make_mountpoint, make_owned
from csi.mounting.plan import NodeDirectories, dataset_of, default_quota, spec_of
from csi.mounting.serving import Served, StageRequest, Wanted
from csi.volumes import parameters as volume_parameters
from csi.volumes import secrets as volume_secrets
from csi.volumes.inline import InlineVolume
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec

log = logging.getLogger(__name__)

END_SECONDS = 5.0  # that daemons may take to end
_NO_PODS = "the daemons of this node are the driver's own: start it with --daemons pods for those of cache pods"
WRITES_SECONDS = 100.0  # to wait for files that are not in the store yet, before the last volume of a mount is unstaged


class OwnDaemons:
    """See serving.Serving."""

    has_pods = False

    def __init__(self, directories: NodeDirectories, custody: Custody, daemons: Daemons) -> None:
        self._custody = custody
        self._directories = directories
        self._daemons = daemons
        self._not_upgraded: set[str] = set()

    def wanted(self, request: StageRequest) -> Wanted:
        """What was modified since the volume was made is in the dataset, and not in the digest: the same call comes again."""
        parameters = volume_parameters.parse(request.context)
        identity = volume_secrets.identity_of(request.secrets)
        asked = dataset_of(parameters, identity, read_only=request.read_only) + parameters.directory
        parameters = dataclasses.replace(parameters, settings={**parameters.settings, **request.modified})
        dataset = dataset_of(parameters, identity, read_only=request.read_only)
        context = dataclasses.replace(parameters, directory="").to_context()
        return Wanted(dataset, asked, parameters.directory, context, request.read_only)

    def new_mount(self, wanted: Wanted) -> DatasetMount:
        quota = default_quota(self._directories)
        return DatasetMount(wanted.dataset, wanted.context, wanted.read_only, default_quota=quota)

    def run_dir(self, dataset: str) -> str:
        return str(self._directories.run / dataset)

    async def wait_ready(self, context: Mapping[str, str]) -> None:
        """They are started when they are needed."""

    async def ensure(self, mount: DatasetMount, secrets: Mapping[str, str]) -> Served:
        if secrets:
            make_owned(self._directories.secrets(mount.id), self._daemons.user)
            volume_secrets.write_files(self._directories.secrets(mount.id), secrets, self._daemons.user)
        if not self._is_running(mount.id):
            await self._start(mount)
        # What is bound into pods is never taken from what the daemon has written: it has no privileges, we have.
        held = (await self._custody.mounts()).get(mount.id)
        if held is None:
            raise CacheError(ErrorKind.UNAVAILABLE, f"the mount of dataset {mount.id} is gone: it is made anew, ask again")
        return Served(str(self._directories.mountpoint(mount.id)), held.device)

    def mount_for_pod(self, volume: InlineVolume) -> DatasetMount:
        raise refused(_NO_PODS)

    async def hold(self, mount: DatasetMount) -> Served:
        raise refused(_NO_PODS)

    async def _start(self, mount: DatasetMount) -> None:
        spec = self._spec(mount)
        order = MountOrder.of_spec(spec, self._daemons.user.uid)
        make_mountpoint(Path(spec.mountpoint))
        for path in (spec.state_dir, *(tier.path for tier in spec.tiers)):
            make_owned(Path(path), self._daemons.user)
        await self._custody.ensure_running()
        await self._custody.mount(order)
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
            await self._custody.mount(order)
            await self._daemons.start(spec, self._custody.socket_directory(mount.id))

    def _spec(self, mount: DatasetMount) -> MountSpec:
        context = volume_parameters.parse(mount.context)
        secret_files = {
            f"{path.name}_file": str(path) for path in self._directories.secrets(mount.id).glob("[a-z]*") if path.is_file()
        }
        return spec_of(mount.id, context, secret_files, self._directories, mount.default_quota, read_only=mount.read_only)

    def _is_running(self, dataset: str) -> bool:
        record = record_of(self.run_dir(dataset))
        return record is not None and record.is_supervised and record.is_mounted and record.state in ("ready", "degraded")

    async def end(self, mount: DatasetMount) -> None:
        """The daemon uploads what was written, and ends. Raises: FAILED_PRECONDITION if that takes long."""
        dataset, run_dir = mount.id, self.run_dir(mount.id)
        await self._custody.ensure_running()
        answers = await control.answers(run_dir)
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
        shutil.rmtree(self._directories.secrets(dataset), ignore_errors=True)

    def _free_memory(self, dataset: str) -> None:
        directory = self._directories.memory(dataset)
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            directory.parent.rmdir()

    async def _is_uploading(self, run_dir: str) -> bool:
        """Whether there is something to wait for. A daemon that hangs uploads nothing: what it has is left to the next one."""
        try:
            return bool((await control.ask(run_dir, {"do": "status"})).get("pending_files"))
        except CacheError:
            return False

    async def restore(self, mount: DatasetMount) -> Served | None:
        if self._is_running(mount.id):
            await self._upgrade(mount)
            record = record_of(self.run_dir(mount.id))
            if record is None or record.device == mount.device:
                return None  # else a driver of before started it, and died before it had bound what is published
            return await self.ensure(mount, {})
        log.warning("dataset %s of %d volumes has no daemon, and gets one", mount.id, len(mount.volumes))
        return await self.ensure(mount, {})

    async def _upgrade(self, mount: DatasetMount) -> None:
        """Let a daemon of our version take over from one of another. One that cannot go on says so first: it is asked once."""
        record = record_of(self.run_dir(mount.id))
        if record is None or record.version == VERSION or mount.id in self._not_upgraded:
            return
        log.info("the daemon of dataset %s has version %s: one of version %s takes over", mount.id, record.version, VERSION)
        try:
            await self._daemons.start(self._spec(mount), self._custody.socket_directory(mount.id))
        except CacheError as error:
            self._not_upgraded.add(mount.id)
            log.error("version %s of the daemon of dataset %s stays: %s", record.version, mount.id, error)
