"""Several writers of one dataset on one machine, each a node of its own, that find each other over real sockets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fusecache.contract.mount_spec import PeersSpec
from tests.support.fake_source import FakeSource
from tests.support.fetch_harness import FetchHarness, spec_of
from tests.support.seaweed import free_ports

TOKEN = "token of the tests"
PATIENCE_SECONDS = 20.0


class PeerNodes:
    """Attributes: nodes, by name; sources, of each: what a node asked the store is counted there. `services`: addresses that a
    node looks for the others at, where they are not all. `consumers`: those that own nothing, whatever tiers they have."""

    def __init__(
        self,
        path: Path,
        *names: str,
        put: Callable[[FakeSource], Any],
        make_source: Callable[[], FakeSource] = FakeSource,
        quotas: dict[str, tuple[int, ...]] | None = None,
        tokens: dict[str, str] | None = None,
        services: dict[str, str] | None = None,
        consumers: Sequence[str] = (),
        **fields: Any,
    ) -> None:
        ports = free_ports(len(names))
        everybody = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.ports = dict(zip(names, ports, strict=True))
        self.nodes: dict[str, FetchHarness] = {}
        self.sources: dict[str, FakeSource] = {}
        for name in names:
            source = self.sources[name] = make_source()
            put(source)
            (path / name).mkdir()
            token = path / name / "token"
            token.write_text((tokens or {}).get(name, TOKEN))
            service = (services or {}).get(name, everybody)
            peers = PeersSpec(service, self.ports[name], name, str(token), "127.0.0.1", owns=name not in consumers)
            spec = spec_of(path / name, *(quotas or {}).get(name, (1 << 20,)), peers=peers, **{"ttl_seconds": 100.0, **fields})
            self.nodes[name] = FetchHarness(spec, source)

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()

    def known(self, name: str) -> tuple[str, ...]:
        """Return which nodes own blocks, as one of them sees it."""
        node = self.nodes[name]
        assert node.cache.peers is not None
        peers = node.cache.peers
        return node.call_sync(lambda: peers.nodes)

    def wait_known(self, name: str, *names: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.known(name) != tuple(sorted(names)):
            assert time.monotonic() < deadline, f"{name} knows {self.known(name)}"
            time.sleep(0.05)

    @property
    def bytes_read(self) -> int:
        """How much all of them asked the store for."""
        return sum(source.bytes_read for source in self.sources.values())

    def bytes_read_of(self, wanted: bytes) -> int:
        return sum(
            count for source in self.sources.values() for (path, _), count in source.counts.reads.items() if path == wanted
        )


@contextlib.contextmanager
def sharing(path: Path, *names: str, **fields: Any) -> Iterator[PeerNodes]:
    """Nodes that know each other; each is checked at the end."""
    nodes = PeerNodes(path, *names, **fields)
    with contextlib.ExitStack() as stack:
        for name, node in nodes.nodes.items():
            stack.callback(node.close)
            stack.callback(nodes.sources[name].mend)
        nodes.start()
        specs = {name: node.spec for name, node in nodes.nodes.items()}
        owners = [name for name, spec in specs.items() if spec.tiers and spec.peers is not None and spec.peers.owns]
        if "services" not in fields and "tokens" not in fields:
            for name in names:
                nodes.wait_known(name, *owners)
        yield nodes
        for node in nodes.nodes.values():
            if node._thread is not None:
                node.check()
