"""The addresses of a cluster: three networks in 10.0.0.0/8 that this machine has no other way to.

| network | who |
|---|---|
| 10.B.0.0/24 | the machine (.1), the control plane (.2), nodes (.11 and following) |
| 10.B+1.N.0/24 | pods of node N |
| 10.B+2.0.0/16 | services; .0.1 is the API server, .0.10 is DNS |

Nothing leads from them to the outside: no box has a default route, no packet is masqueraded towards another network.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

BLOCKS = range(212, 252, 4)  # second octets to try, far from the usual 10.0, 10.96 and 10.244; a guess
API_PORT = 6443
LOCK = "/run/lock/fusecache-cluster-addresses"  # it stays; of the machine, as its routes are


@dataclass(frozen=True, slots=True)
class Addresses:
    """The plan for one cluster; everything follows from the block."""

    block: int

    @property
    def machine(self) -> str:
        """The end of the wire that is on the machine. A server that pods should reach listens here."""
        return f"10.{self.block}.0.1"

    @property
    def control_plane(self) -> str:
        return f"10.{self.block}.0.2"

    def node(self, number: int) -> str:
        return f"10.{self.block}.0.{10 + number}"

    def node_pods(self, number: int) -> str:
        return f"10.{self.block + 1}.{number}.0/24"

    @property
    def nodes(self) -> str:
        return f"10.{self.block}.0.0/24"

    @property
    def pods(self) -> str:
        return f"10.{self.block + 1}.0.0/16"

    @property
    def services(self) -> str:
        return f"10.{self.block + 2}.0.0/16"

    @property
    def api_service(self) -> str:
        return f"10.{self.block + 2}.0.1"

    @property
    def dns_service(self) -> str:
        return f"10.{self.block + 2}.0.10"

    @property
    def api_url(self) -> str:
        return f"https://{self.control_plane}:{API_PORT}"


@contextlib.contextmanager
def chosen() -> Iterator[Addresses]:
    """Yield a plan that nobody else gets until the block is left: by then its routes are there. Raises: RuntimeError, OSError."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield choose()


def choose() -> Addresses:
    """Return a plan that overlaps no route of this machine (a second cluster's are among them). Raises: RuntimeError."""
    taken = known_routes()
    for block in BLOCKS:
        if is_free(Addresses(block), taken):
            return Addresses(block)
    raise RuntimeError(f"this machine has routes to every network from 10.{BLOCKS[0]} to 10.{BLOCKS[-1]}")


def is_free(plan: Addresses, taken: list[ipaddress.IPv4Network]) -> bool:
    wanted = [ipaddress.IPv4Network(text) for text in (plan.nodes, plan.pods, plan.services)]
    return not any(ours.overlaps(theirs) for ours in wanted for theirs in taken)


def known_routes() -> list[ipaddress.IPv4Network]:
    """Return where this machine has routes to, the default route left out."""
    command = ["ip", "-json", "-4", "route", "show", "table", "all"]
    routes = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=10).stdout)
    return [ipaddress.IPv4Network(route["dst"], strict=False) for route in routes if route["dst"] != "default"]
