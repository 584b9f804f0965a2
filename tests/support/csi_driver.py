"""The CSI driver as a process, standalone, with real daemons; and a client of its socket.

Owns the process, and at the end whatever it left: mounts below its directory, daemons, files.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from csi.stubs import csi_pb2, csi_pb2_grpc
from fusecache.base.confinement import User, shut_out
from fusecache.contract.keeping import KEEPER_FILE
from fusecache.custody.mount_table import MountRecord, ProcessId, list_mounts
from fusecache.custody.mountinfo import FSTYPE, read_mountinfo
from tests.support.mounted import ROOT, kill, wait_until

Mode = csi_pb2.VolumeCapability.AccessMode.Mode
START_SECONDS = 20.0
CALL_SECONDS = 60.0
GONE_SECONDS = 5.0  # that killed processes may take to be gone
NOBODY = User(65534, 65534)


class CsiDriver:
    """Use as a context manager. `base` is short: the socket's path must fit. Volumes may be mounted below `base/pods`."""

    def __init__(
        self,
        base: Path,
        environment: Mapping[str, str],
        *,
        mode: Sequence[str] = ("--standalone", "--node-id", "node-1"),
        package: Path = ROOT,
    ) -> None:
        """`mode`: the first arguments. `package`: directory of the code that runs."""
        self.base = base
        self.package = package
        self._mode = list(mode)
        base.mkdir(parents=True, exist_ok=True)
        _let_others_pass(base)
        self.daemon_user = "0" if shut_out(NOBODY, [sys.executable, str(package / "csi"), str(base / "state")]) else str(NOBODY)
        self.state = base / "state"
        self.pods = base / "pods"
        self.pods.mkdir(parents=True, exist_ok=True)
        self.endpoint = f"unix://{base}/csi.sock"
        self._environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", **environment}
        self._log = base / "driver.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None

    def start(self) -> Self:
        command = [sys.executable, "-P", "-m", "csi", *self._mode, "--endpoint", self.endpoint]
        command += ["--state-dir", str(self.state), "--allowed-root", str(self.pods), "--log-level", "DEBUG"]
        command += ["--daemon-user", self.daemon_user]
        environment = {**self._environment, "PYTHONPATH": str(self.package)}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        assert wait_until(lambda: self._answers() or self._ended(), START_SECONDS), self.log()
        assert not self._ended(), self.log()
        return self

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def _answers(self) -> bool:
        try:
            return bool(self.identity.Probe(csi_pb2.ProbeRequest(), timeout=1.0).ready.value)
        except grpc.RpcError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def restart(self, *arguments: str) -> None:
        """With more arguments than before."""
        self.stop()
        self._mode = [*self._mode, *arguments]
        self.start()

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    # -- clients

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.endpoint)
        return self._channel

    @property
    def identity(self) -> Any:
        return csi_pb2_grpc.IdentityStub(self.channel)

    @property
    def controller(self) -> Any:
        return csi_pb2_grpc.ControllerStub(self.channel)

    @property
    def node(self) -> Any:
        return csi_pb2_grpc.NodeStub(self.channel)

    def create(self, name: str, parameters: Mapping[str, str], mode: int = Mode.SINGLE_NODE_WRITER, **more: Any) -> Any:
        request = csi_pb2.CreateVolumeRequest(
            name=name, parameters=dict(parameters), volume_capabilities=[capability(mode)], **more
        )
        return self.controller.CreateVolume(request, timeout=CALL_SECONDS).volume

    def stage(self, volume: Any, name: str = "", mode: int = Mode.SINGLE_NODE_WRITER, **more: Any) -> str:
        staging = self.pods / f"staging-{name or volume.volume_id}"
        staging.mkdir(exist_ok=True)
        request = csi_pb2.NodeStageVolumeRequest(
            volume_id=volume.volume_id,
            staging_target_path=str(staging),
            volume_capability=capability(mode),
            volume_context=volume.volume_context,
            **more,
        )
        self.node.NodeStageVolume(request, timeout=CALL_SECONDS)
        return str(staging)

    def publish(self, volume: Any, staging: str, name: str, mode: int = Mode.SINGLE_NODE_WRITER, **more: Any) -> Path:
        target = self.pods / name
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id=volume.volume_id,
            staging_target_path=staging,
            target_path=str(target),
            volume_capability=capability(mode),
            **more,
        )
        self.node.NodePublishVolume(request, timeout=CALL_SECONDS)
        return target

    def unpublish(self, volume: Any, target: Path) -> None:
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(target))
        self.node.NodeUnpublishVolume(request, timeout=CALL_SECONDS)

    def unstage(self, volume: Any, staging: str) -> None:
        request = csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=staging)
        self.node.NodeUnstageVolume(request, timeout=CALL_SECONDS)

    def delete(self, volume: Any) -> None:
        self.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id), timeout=CALL_SECONDS)

    # -- what is there

    def records(self) -> list[MountRecord]:
        return list_mounts(str(self.state / "run"))

    def mounts(self) -> list[str]:
        """Return the mount points of ours below `base`."""
        return [
            entry.mountpoint
            for entry in read_mountinfo()
            if entry.fstype == FSTYPE and entry.mountpoint.startswith(f"{self.base}/")
        ]

    def keeper(self) -> ProcessId | None:
        """Return the process of custody."""
        with contextlib.suppress(OSError, ValueError):
            return ProcessId(**json.loads((self.state / "custody" / KEEPER_FILE).read_text()))
        return None

    def leftovers(self) -> list[str]:
        """Return what should not be there when all volumes are unstaged."""
        alive = [str(record) for record in self.records() if not record.is_leftover]
        journal = [path.name for path in (self.state / "datasets").glob("*")]
        secrets = [str(path) for path in (self.state / "secrets").glob("*/*")]
        kept = [path.name for path in (self.state / "custody" / "mounts").glob("*")]
        return [*self.mounts(), *alive, *journal, *secrets, *kept]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.stop(signal.SIGKILL)
        for entry in reversed(read_mountinfo()):  # directories of inline volumes are none of FUSE
            if entry.mountpoint.startswith(f"{self.pods}/"):
                subprocess.run(["umount", "-l", entry.mountpoint], check=False, timeout=10)
        if (keeper := self.keeper()) is not None and keeper.is_alive:
            kill(keeper.pid)
        for record in self.records():
            for process in (record.supervisor, *record.daemons):
                if process.is_alive:
                    kill(process.pid)
        while left := self.mounts():
            subprocess.run(["umount", "-l", left[-1]], check=True, timeout=10)
            time.sleep(0.01)
        if not wait_until(lambda: not self._processes(), GONE_SECONDS):
            stray = self._processes()
            for pid in stray:
                kill(pid)
            raise AssertionError(f"processes that nobody knew of: {stray}")

    def _processes(self) -> list[int]:
        """Return who has our directory in its arguments; the guard of all tests does not see custody, which has no mark."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"{self.base}/".encode() in path.read_bytes():  # a zombie has no arguments
                    found.append(int(path.parent.name))
        return found

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            print(self.log()[-8000:])
        self.close()


def _let_others_pass(path: Path) -> None:
    """Daemons have another user; directories that were made for tests are private."""
    for directory in (path, *path.parents):
        if any("fusecache-test-" in part for part in directory.parts):
            directory.chmod(directory.stat().st_mode & 0o7777 | 0o011)


def capability(mode: int = Mode.SINGLE_NODE_WRITER, **mount: Any) -> csi_pb2.VolumeCapability:
    return csi_pb2.VolumeCapability(
        mount=csi_pb2.VolumeCapability.MountVolume(**mount),
        access_mode=csi_pb2.VolumeCapability.AccessMode(mode=mode),  # type: ignore[arg-type]
    )
