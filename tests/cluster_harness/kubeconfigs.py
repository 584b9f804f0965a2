"""Kubeconfig files: where the API server is, and a certificate to tell it who one is. Everything is inside the file."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

CLUSTER = "fusecache"


def write(path: Path, server: str, pki: Path, certificate: str) -> None:
    """Write a kubeconfig for the holder of `pki`/`certificate`.crt, readable by its owner only."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER, "cluster": {"server": server, "certificate-authority-data": _encoded(pki / "ca.crt")}}],
        "users": [
            {
                "name": certificate,
                "user": {
                    "client-certificate-data": _encoded(pki / f"{certificate}.crt"),
                    "client-key-data": _encoded(pki / f"{certificate}.key"),
                },
            }
        ],
        "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": certificate}}],
        "current-context": CLUSTER,
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
