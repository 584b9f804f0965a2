"""The operator as a process on the test's machine, for the cluster of a kubeconfig. Owns the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.mounted import ROOT, wait_until

START_SECONDS = 30.0


class OperatorProcess:
    """Use as a context manager."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path, *, image: str) -> None:
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(kubeconfig)}
        self._command = [sys.executable, "-P", "-m", "csi", "operator", "--namespace", namespace, "--image", image]
        self._command += ["--pull-policy", "Never", "--log-level", "DEBUG"]
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        began = self.log().count("is the operator")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        assert wait_until(lambda: self.log().count(" is the operator") > began or self._ended(), START_SECONDS), self.log()
        assert not self._ended(), self.log()
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(20)
        self.process = None
        return status

    def kill(self) -> None:
        """As if the machine had taken it away."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            print(self.log()[-6000:])
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
