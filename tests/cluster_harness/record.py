"""What a cluster has taken of this machine, written down before it is taken: the format of DIRECTORY/cluster.json.

| field | meaning |
|---|---|
| identity | six hexadecimal digits; part of the names below, so that two clusters never share one |
| interface | of the wire between the machine and the cluster: "fc-<identity>" |
| cgroup | in every hierarchy: "fusecache-<identity>" |
| block | see addresses.py |
| nodes | names, in order; node N is the Nth, from 1 |

Written once, by rename, before anything is made; read by everybody else. Processes are recorded one by one, next to their boxes
(launch.py). `lock` lets one command at a time work on a directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.cluster_harness.addresses import Addresses

DEFAULT_DIRECTORY = Path("/var/tmp/fusecache-cluster")
RECORD_FILE = "cluster.json"
CONTROL_PLANE = "control-plane"
NODE_COUNT = 3


class NotOursError(Exception):
    """The directory holds something that no cluster wrote."""


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """cluster.json; the fields are described above."""

    identity: str
    interface: str
    cgroup: str
    block: int
    nodes: list[str]

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.block)

    @property
    def boxes(self) -> list[str]:
        return [CONTROL_PLANE, *self.nodes]

    def number(self, node: str) -> int:
        """Return N of "node-N" as addresses.py counts. Raises: ValueError."""
        return self.nodes.index(node) + 1

    @classmethod
    def new(cls, addresses: Addresses) -> Self:
        identity = secrets.token_hex(3)
        nodes = [f"node-{number}" for number in range(1, NODE_COUNT + 1)]
        return cls(identity, f"fc-{identity}", f"fusecache-{identity}", addresses.block, nodes)

    def store(self, directory: Path) -> None:
        path = directory / RECORD_FILE
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self), indent=1))
        temporary.rename(path)

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Return the record, or None if there is none."""
        try:
            return cls(**json.loads((directory / RECORD_FILE).read_text()))
        except FileNotFoundError:
            return None


@contextlib.contextmanager
def lock(directory: Path, *, create: bool) -> Iterator[bool]:
    """Hold the directory; yields False if it is not there and shall not be made.

    Raises: NotOursError if it is neither empty nor a cluster's.
    """
    while True:
        if create:
            _make(directory)
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if create:
                continue  # it was removed in this moment
            yield False
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_still(directory, descriptor):
            break
        os.close(descriptor)  # who held it removed the directory
    try:
        names = set(os.listdir(directory)) - {f"{Path(RECORD_FILE).stem}.new"}
        if names and RECORD_FILE not in names:
            raise NotOursError(f"{directory} is neither empty nor a cluster's; name another directory")
        yield True
    finally:
        os.close(descriptor)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # also where it is removed before the library looks what it is
        if directory.exists() and not directory.is_dir():
            raise


def _is_still(directory: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(directory.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
