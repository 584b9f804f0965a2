"""A kubeconfig with which a program outside of the cluster is who it would be inside: a service account, with a token of it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.support.kubectl import Kubectl


def write_kubeconfig(path: Path, kubectl: Kubectl, namespace: str, account: str) -> Path:
    """Write the kubeconfig of an account next to nothing else of the administrator's. Raises: KubectlError."""
    token = kubectl("create", "token", account, f"--namespace={namespace}").strip()
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    config["users"] = [{"name": account, "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = account
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path
