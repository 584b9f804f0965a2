"""helm as a function, and this project's chart as a release in one cluster.

Owns nothing: what is installed stays until `uninstall`. The program is built if need be (tests/cluster_harness/builds.py).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cluster_harness import builds
from tests.support.mounted import ROOT

CHART = ROOT / "deploy" / "helm" / "fusecache"
COMMAND_SECONDS = 120.0
WAIT_SECONDS = 300.0  # for images that are pulled, and pods that become ready
PODS = ("Deployment", "DaemonSet")  # kinds of the chart that have them
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the definitions are long: ten times as fast


class HelmError(Exception):
    """helm ended with another code than 0; says what it printed."""


@dataclass(frozen=True, slots=True)
class Helm:
    """Calls helm for the cluster of a kubeconfig; None: for no cluster. What helm remembers goes with the call."""

    kubeconfig: Path | None = None

    def __call__(self, *arguments: str, values: Mapping[str, Any] | None = None, timeout_seconds: float = COMMAND_SECONDS) -> str:
        """Return what helm printed. `values`: as a file of values would say them. Raises: HelmError, BuildError."""
        program = str(builds.program("helm"))
        given = ["--values=-"] if values is not None else []
        with tempfile.TemporaryDirectory() as home:
            environment = {f"HELM_{name}_HOME": home for name in ("CACHE", "CONFIG", "DATA")}
            environment |= {"HOME": home, "KUBECONFIG": str(self.kubeconfig or f"{home}/none")}  # below HOME it caches
            done = subprocess.run(
                [program, *arguments, *given],
                input=json.dumps(values or {}),
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
            )
        if done.returncode != 0:
            raise HelmError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def render(values: Mapping[str, Any] | None = None, *options: str, namespace: str = "here") -> list[dict[str, Any]]:
    """Return the objects that the chart comes to, without a cluster. Raises: HelmError."""
    text = Helm()("template", "fusecache", str(CHART), f"--namespace={namespace}", *options, values=values or {})
    return read_objects(text)


def read_objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a YAML text."""
    loader, found = _LOADER(text), []
    while loader.check_data():
        found.append(loader.get_data())
    return [each for each in found if each]


@dataclass(frozen=True, slots=True)
class Release:
    """The chart in one cluster, with images that its nodes have.

    Attributes:
        images: of `images` in the chart's values; what is not named keeps its default.
        values: on top of these.
    """

    kubeconfig: Path
    namespace: str = "fusecache-system"
    name: str = "fusecache"
    images: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def install(self, *options: str, **values: Any) -> str:
        """Options such as "--wait". Raises: HelmError."""
        chosen = self._values(values)
        return self._helm("install", self.name, str(CHART), "--create-namespace", *options, values=chosen, seconds=WAIT_SECONDS)

    def bring_up(self, *options: str, **values: Any) -> str:
        """Install it, or upgrade the one that is there."""
        options = ("--install", "--create-namespace", *options)
        return self._helm("upgrade", self.name, str(CHART), *options, values=self._values(values), seconds=WAIT_SECONDS)

    def upgrade(self, *options: str, **values: Any) -> str:
        return self._helm("upgrade", self.name, str(CHART), *options, values=self._values(values))

    def rollback(self, revision: int) -> str:
        return self._helm("rollback", self.name, str(revision))

    def uninstall(self) -> str:
        """Remove all but the definitions. There need not be a release."""
        return self._helm("uninstall", self.name, "--ignore-not-found", "--wait")

    def _helm(self, *arguments: str, values: Mapping[str, Any] | None = None, seconds: float = COMMAND_SECONDS) -> str:
        return Helm(self.kubeconfig)(*arguments, f"--namespace={self.namespace}", values=values, timeout_seconds=seconds)

    def _values(self, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"images": {"pullPolicy": "Never", **self.images}, **self.values, **more}
