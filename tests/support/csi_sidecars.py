"""The controller with csi-attacher and csi-provisioner as processes on the test's machine, for the cluster of a kubeconfig.

Owns the processes: all of them have ended when the context manager has, whatever happened in it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from csi.stubs import csi_pb2, csi_pb2_grpc
from tests.cluster_harness import builds
from tests.support.mounted import ROOT, wait_until

START_SECONDS = 30.0
END_SECONDS = 20.0
SIDECARS = {
    "csi-attacher": ["--timeout=60s", "--retry-interval-max=5s"],
    "csi-provisioner": ["--timeout=60s", "--retry-interval-max=5s", "--extra-create-metadata"],
}


class CsiSidecars:
    """Use as a context manager. `directory` is short: the socket's path must fit. `own`: kubeconfig of the controller itself."""

    def __init__(self, kubeconfig: Path, own: Path, directory: Path) -> None:
        self._kubeconfig = kubeconfig
        self._directory = directory
        self.endpoint = f"unix://{directory}/csi.sock"
        # No key of the machine's may reach a store: what the controller has comes with calls.
        foreign = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self._environment = {**foreign, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(ROOT)}
        self._own = own
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._programs = {name: builds.program(name) for name in SIDECARS}
        self._channel: grpc.Channel | None = None

    @property
    def stub(self) -> Any:
        """The controller, asked directly."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.endpoint)
        return csi_pb2_grpc.ControllerStub(self._channel)

    def start(self, name: str) -> None:
        """Start one of controller, csi-attacher, csi-provisioner."""
        command = [sys.executable, "-P", "-m", "csi", "controller", "--cluster", "--endpoint", self.endpoint, "--log-level=DEBUG"]
        if name in SIDECARS:
            address = self.endpoint.removeprefix("unix://")
            command = [str(self._programs[name]), f"--csi-address={address}", f"--kubeconfig={self._kubeconfig}", "-v=3"]
            command += ["--leader-election=false", *SIDECARS[name]]
        kubeconfig = self._kubeconfig if name in SIDECARS else self._own
        self._processes[name] = self._run(name, command, {**self._environment, "KUBECONFIG": str(kubeconfig)})
        if name not in SIDECARS:
            assert wait_until(self._answers, START_SECONDS), self.log(name)

    def stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_SECONDS)

    def log(self, name: str) -> str:
        path = self._directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _run(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self._directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _answers(self) -> bool:
        try:
            self.stub.ControllerGetCapabilities(csi_pb2.ControllerGetCapabilitiesRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
        return True

    def __enter__(self) -> Self:
        try:
            for name in ("controller", *SIDECARS):
                self.start(name)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in ("controller", *SIDECARS):  # shown if the test has failed
            print(f"--- {name}\n{self.log(name)[-4000:]}")
        self._end()

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        for name in list(self._processes)[::-1]:
            with contextlib.suppress(OSError):
                self.stop(name)
