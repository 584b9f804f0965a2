"""The bucket that is written to, seen from the store's side: what is there, and with which bytes.

Owns a bucket for the length of a `with`: it goes with all that is in it, as a store on tmpfs that only deletes objects would
keep their bytes. Used from the one thread of the bench.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from tests.bench.contenders.contender import ContenderError
from tests.bench.store import open_store
from tests.bench.writing import content
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed

PAUSE_SECONDS = 0.1  # between two looks at what has arrived
READERS = 4  # that compare objects; outside the clock
PART_BYTES = 8 << 20


class WrittenBucket:
    def __init__(self, server: Seaweed, name: str) -> None:
        self.name = name
        keys = server.client_environment()
        self._bucket = S3Bucket(server.endpoint_url, name, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
        self._store = open_store(keys, name)

    def put(self, file: Mapping[str, Any]) -> None:
        """Upload a file as an object, as it is before it is patched."""
        import obstore

        obstore.put(self._store, file["name"], content.pieces(dict(file)), use_multipart=True, chunk_size=PART_BYTES)

    def versions(self) -> dict[str, tuple[int, str]]:
        """Return size and ETag of each object."""
        import obstore

        pages = obstore.list(self._store, chunk_size=1000)
        return {one["path"]: (one["size"], one["e_tag"] or "") for page in pages for one in page}

    def missing(self, files: Iterable[Mapping[str, Any]], before: Mapping[str, tuple[int, str]]) -> list[str]:
        """Return the names of files that are not there as a new version of the right size."""
        now = self.versions()
        return [
            str(file["name"])
            for file in files
            if now.get(file["name"], (-1, ""))[0] != file["size"] or now[file["name"]] == before.get(file["name"])
        ]

    def wait_stored(
        self, files: Sequence[Mapping[str, Any]], before: Mapping[str, tuple[int, str]], timeout_seconds: float
    ) -> float:
        """Return when all files are there, in seconds of the monotonic clock. Raises: ContenderError."""
        deadline = time.monotonic() + timeout_seconds
        while missing := self.missing(files, before):
            if time.monotonic() > deadline:
                raise ContenderError(f"{len(missing)} files are not in the store after {timeout_seconds:.0f} s")
            time.sleep(PAUSE_SECONDS)
        return time.monotonic()

    def check(self, files: Sequence[Mapping[str, Any]]) -> None:
        """Compare every byte of the objects with what was written. Raises: ContenderError."""
        import obstore
        import xxhash

        def found(file: Mapping[str, Any]) -> str:
            state = xxhash.xxh3_128()
            for data in obstore.get(self._store, file["name"]).stream():
                state.update(data)
            return state.hexdigest()

        with ThreadPoolExecutor(READERS) as pool:
            for file, digest in zip(files, pool.map(found, files), strict=True):
                if digest != content.digest(dict(file)):
                    raise ContenderError(f"the object {file['name']} has other bytes than were written")

    def __enter__(self) -> Self:
        self._bucket.create()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._bucket.remove()
        finally:
            self._bucket.close()
