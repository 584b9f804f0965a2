"""A registry that images are pushed to, as people have one: Debian's docker-registry, behind TLS.

Owns one process for the length of a `with`; certificate and images are in its directory.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster_harness.certificates import Authority
from tests.support.seaweed import free_ports
from tests.support.server_process import running

_CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}/images}}}}
http: {{addr: "{host}", tls: {{certificate: {directory}/pki/server.crt, key: {directory}/pki/server.key}}}}
"""


@dataclass(frozen=True, slots=True)
class ImageRegistry:
    """`host`: address:port, what names of images begin with. `authority`: file of the certificate that its own is signed with."""

    host: str
    authority: Path


def missing_registry() -> str | None:
    """Return why there cannot be one, None if there can."""
    return None if shutil.which("docker-registry") else "docker-registry is not installed (make promises-cluster installs it)"


@contextlib.contextmanager
def image_registry(directory: Path, address: str) -> Iterator[ImageRegistry]:
    authority = Authority(directory / "pki")
    authority.issue("server", "registry", names=[address])
    (port,) = free_ports(1)
    host = f"{address}:{port}"
    config = directory / "config.yml"
    config.write_text(_CONFIG.format(directory=directory, host=host))
    with running(["docker-registry", "serve", str(config)], port, directory / "log", address=address):
        yield ImageRegistry(host, authority.certificate)
