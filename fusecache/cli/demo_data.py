"""What the demo reads: seven large files with the sizes of a software mirror's directory, and 5,000 small ones.

State: the digests of what was uploaded, by name. The bytes are random, so that nothing can compress them, and kept nowhere else.
"""

from __future__ import annotations

import http.client
import os
import queue
import random
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import xxhash

from fusecache.base.units import KIB, MIB
from fusecache.cli.demo_store import ADMIN
from fusecache.source.credentials import Credential
from fusecache.source.sigv4 import UNSIGNED_PAYLOAD, Signer

BUCKET = "demo"
LARGE_FILES = {
    "releases/SparkR_3.3.1.tar.gz": 348 * KIB,
    "releases/pyspark-3.3.1.tar.gz": 269 * MIB,
    "releases/spark-3.3.1-bin-hadoop2.tgz": 262 * MIB,
    "releases/spark-3.3.1-bin-hadoop3-scala2.13.tgz": 293 * MIB,
    "releases/spark-3.3.1-bin-hadoop3.tgz": 286 * MIB,
    "releases/spark-3.3.1-bin-without-hadoop.tgz": 201 * MIB,
    "releases/spark-3.3.1.tgz": 28 * MIB,
}
SMALL_FILES = 5000
SMALL_PER_DIRECTORY = 100
SMALL_MEDIAN_BYTES = 16 * KIB
UPLOADERS = 4  # two cores are busy with four
_PIECE_BYTES = 1 * MIB


class DemoFile(NamedTuple):
    name: str
    size: int


def large_files(scale: float = 1.0) -> list[DemoFile]:
    return [DemoFile(name, round(size * scale)) for name, size in LARGE_FILES.items()]


def small_files(scale: float = 1.0) -> list[DemoFile]:
    """Sizes are log-normal, as those of images are; the same in each run."""
    shape = random.Random(5000)
    sizes = [1 + round(SMALL_MEDIAN_BYTES * shape.lognormvariate(0, 0.8)) for _ in range(round(SMALL_FILES * scale))]
    return [DemoFile(f"images/{index // SMALL_PER_DIRECTORY:03d}/{index:05d}.bin", size) for index, size in enumerate(sizes)]


class Upload:
    """Fills a bucket. Call `run` once, from the main thread; `digests` holds name → xxh3-128 of every file afterwards."""

    def __init__(self, endpoint_url: str, files: list[DemoFile]) -> None:
        parts = urlsplit(endpoint_url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._signer = Signer("us-east-1")
        self._credential = Credential(ADMIN.access_key, ADMIN.secret_key)
        self._waiting: queue.SimpleQueue[DemoFile | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._files = files
        self.digests: dict[str, bytes] = {}

    def run(self, on_bytes: Callable[[int], None]) -> None:
        """Upload everything; `on_bytes` is told of each piece. Raises: what an uploader met; all of them have ended then."""
        self._create_bucket()
        for file in sorted(self._files, key=lambda file: -file.size):
            self._waiting.put(file)
        threads = [threading.Thread(target=self._work, name=f"upload-{number}", daemon=True) for number in range(UPLOADERS)]
        for thread in threads:
            self._waiting.put(None)
            thread.start()
        try:
            self._follow(len(threads), on_bytes)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(10)

    def _follow(self, running: int, on_bytes: Callable[[int], None]) -> None:
        while running:
            news = self._done.get()
            if isinstance(news, BaseException):
                raise RuntimeError(f"uploading to the demo's store failed: {news}") from news
            if news < 0:
                running -= 1
            else:
                on_bytes(news)

    def _work(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=120)
        try:
            while (file := self._waiting.get()) is not None and not self._stop.is_set():
                self._put(connection, f"/{BUCKET}/{file.name}", file)
            self._done.put(-1)
        except BaseException as error:
            self._done.put(error)
        finally:
            connection.close()

    def _create_bucket(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        try:
            self._put(connection, f"/{BUCKET}", None)
        finally:
            connection.close()

    def _put(self, connection: http.client.HTTPConnection, path: str, file: DemoFile | None) -> None:
        size = 0 if file is None else file.size
        headers = {"host": f"{self._address[0]}:{self._address[1]}", "content-length": str(size)}
        path = quote(path, safe="/-._~")
        signed = self._signer.sign(self._credential, "PUT", path, "", headers, payload_sha256=UNSIGNED_PAYLOAD)
        connection.request("PUT", path, body=None if file is None else self._pieces(file), headers=signed)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"PUT {path}: {answer.status} {text[:300]!r}")

    def _pieces(self, file: DemoFile) -> Iterator[bytes]:
        digest = xxhash.xxh3_128()
        left = file.size
        while left:
            if self._stop.is_set():
                raise InterruptedError("stopped")
            piece = os.urandom(min(left, _PIECE_BYTES))
            digest.update(piece)
            yield piece
            left -= len(piece)
            self._done.put(len(piece))
        self.digests[file.name] = digest.digest()
