"""The options of `python -m fusecache.pod`: where things lie. In a pod there are none, each has its place there. Stateless."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

PORT = 9820
NODE_NAME = "NODE_NAME"


class Arguments(NamedTuple):
    """Attributes:
    config: the Dataset as the operator wrote it down (dataset_config.py).
    credentials: directory with the files that `secret_options` name.
    token: file with the token of /status and /warm. Without it both are closed.
    own_token: file with the token of /erase, and of peers: of the Dataset's own pods and the operator alone.
    custody: where custody listens for the mount. Sockets and state of the daemon lie there, too.
    cache, memory: directories of the index and of tiers on disk, and of tiers in memory.
    address: where the HTTP server listens; "": everywhere.
    port: 0 for any that is free.
    node: what the node is called; from NODE_NAME of the environment unless given.
    erased_seconds: after so many without being asked again, a pod that has removed its cache ends, to begin anew.
    """

    config: str = "/etc/fusecache/dataset.json"
    credentials: str = "/etc/fusecache/credentials"
    token: str = "/etc/fusecache/token/token"
    own_token: str = "/etc/fusecache/token/own"
    custody: str = "/custody"
    cache: str = "/cache"
    memory: str = "/memory"
    address: str = ""
    port: int = PORT
    node: str = ""
    erased_seconds: int = 120


def parse(arguments: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Arguments:
    """Exits with 2 for what is not known. argparse would take as long as everything else."""
    named: dict[str, Any] = {"node": environment[NODE_NAME]} if environment.get(NODE_NAME) else {}
    given: dict[str, Any] = dict(zip((name.removeprefix("--") for name in arguments[::2]), arguments[1::2], strict=False))
    if len(arguments) % 2 or set(given) - set(Arguments._fields) or not all(name.startswith("--") for name in arguments[::2]):
        sys.stderr.write(f"usage: python -m fusecache.pod {' '.join(f'[--{name} VALUE]' for name in Arguments._fields)}\n")
        sys.exit(2)
    port = given.pop("port", str(PORT))
    if not port.isdecimal() or int(port) > 0xFFFF:
        sys.stderr.write(f"--port is {port!r}; it must be a number from 0 to 65535\n")
        sys.exit(2)
    erased = given.pop("erased_seconds", "120")
    if not erased.isdecimal():
        sys.stderr.write(f"--erased_seconds is {erased!r}; it must be a number\n")
        sys.exit(2)
    return Arguments(**(named | given))._replace(port=int(port), erased_seconds=int(erased))
