"""Makes a bucket of very many empty objects, by the filer below the S3 face of SeaweedFS: nothing is signed or checked twice.

Requests are sent many at a time over each connection and their answers counted (HTTP pipelining): the server does the work. No
state; blocks until all are there.
"""

from __future__ import annotations

import io
import itertools
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from tests.support.seaweed import Seaweed

CONNECTIONS = 8
PIPELINED = 64  # requests under way on one connection


def make_many_objects(server: Seaweed, bucket: str, directories: int, names: int) -> None:
    """Create `directories` prefixes dir-NNNNN/ of `names` objects name-NNNNNNNN each, in a bucket that exists."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [_paths(bucket, range(worker, directories, CONNECTIONS), names) for worker in range(CONNECTIONS)]
        list(pool.map(lambda share: _fill(server, share), shares))


def _paths(bucket: str, directories: range, names: int) -> Iterator[str]:
    for directory in directories:
        for name in range(names):
            yield f"/buckets/{bucket}/dir-{directory:05}/name-{name:08}"


def _fill(server: Seaweed, paths: Iterator[str]) -> None:
    host = f"127.0.0.1:{server.filer_port}"
    with socket.create_connection(("127.0.0.1", server.filer_port)) as connection, connection.makefile("rb") as answers:
        while batch := list(itertools.islice(paths, PIPELINED)):
            head = f"Host: {host}\r\nContent-Length: 0\r\nContent-Type: application/octet-stream\r\n\r\n"
            connection.sendall("".join(f"PUT {quote(path)} HTTP/1.1\r\n{head}" for path in batch).encode())
            for path in batch:
                _expect_created(answers, path)


def _expect_created(answers: io.BufferedReader, path: str) -> None:
    status = answers.readline()
    length = 0
    while (line := answers.readline().strip().lower()) != b"":
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    body = answers.read(length)
    if b" 201 " not in status:
        raise RuntimeError(f"PUT {path}: {status!r} {body!r}")
