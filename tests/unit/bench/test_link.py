"""A link between this network namespace and one of its own: packets are late, and nothing is left of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.link.link import Link
from tests.bench.link.tun import missing_tun

SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 5000)) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(missing_tun() is not None, reason=f"no link can be made here: {missing_tun()}"),
]


def test_an_echo_takes_a_round_trip_and_its_time_on_the_line() -> None:
    sent = os.urandom(1 << 20)
    with Link(bytes_per_second=10e6, round_trip_seconds=0.05) as link:
        command = [*link.launcher, sys.executable, "-c", SERVER, link.host]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listening\n"
            link.slow_down()
            began = time.monotonic()
            with socket.create_connection((link.host, 5000), 10) as connection:
                assert time.monotonic() - began >= 0.05
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
                assert time.monotonic() - began >= 0.1
                began = time.monotonic()
                got = _echo(connection, sent)
            assert got == sent
            assert time.monotonic() - began >= 0.05 + len(sent) / 10e6
            server.wait(10)
    assert not [name for name in os.listdir("/sys/class/net") if name == f"fcbench{os.getpid()}"]
    assert not Path(f"/proc/{server.pid}").exists()


def _echo(connection: socket.socket, data: bytes) -> bytes:
    got = bytearray()
    for start in range(0, len(data), 65536):
        connection.sendall(data[start : start + 65536])
        while len(got) < start - 4 * 65536:  # so that neither side's buffers fill
            got += connection.recv(65536)
    while len(got) < len(data):
        got += connection.recv(65536)
    return bytes(got)
