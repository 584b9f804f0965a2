"""The S3 server of tests and benches, which is the demo's."""

from __future__ import annotations

from fusecache.cli.demo_store import ADMIN, ANONYMOUS, READER, Identity, Seaweed, find_weed, free_ports

__all__ = ["ADMIN", "ANONYMOUS", "READER", "Identity", "Seaweed", "find_weed", "free_ports"]
