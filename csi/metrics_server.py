"""Where Prometheus asks each program of the driver: ADDRESS:PORT, or :PORT for every address of either family. Stateless."""

from __future__ import annotations

import argparse
import contextlib
import socket

from prometheus_client import CollectorRegistry, start_http_server

Address = tuple[str, int]


def metrics_address(text: str) -> Address:
    """Return address, "" for all, and port. Raises: argparse.ArgumentTypeError."""
    address, colon, port = text.rpartition(":")
    if not (colon and port.isdigit()):
        raise argparse.ArgumentTypeError("has to be ADDRESS:PORT, or :PORT for all addresses")
    return address.strip("[]"), int(port)


def serve_metrics(where: Address, registry: CollectorRegistry) -> None:
    """Answer on a port, in a thread. Raises: OSError."""
    address, port = where
    if not address and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 may be there and switched off; a port that is taken is found out below
            start_http_server(port, "::", registry)
            return
    start_http_server(port, address or "0.0.0.0", registry)
