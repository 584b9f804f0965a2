"""The bare store client: does what the reader program does, without any mount, straight from the store into memory
or, to compare with warming a cache, into files; and what writers do, from memory into the store.

Run by path with the store's keys in the environment. It takes the same orders; `concurrency` says how many requests it keeps in
flight. Nothing here may be faster than the network and the server allow, and nothing a mount does cold can be.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import obstore.store


def open_store(bucket: str) -> Any:
    return obstore.store.S3Store(
        bucket,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_REGION"],
        virtual_hosted_style_request=False,
        unsigned_payload=True,
        client_options={"allow_http": True},
    )


def stream(order: dict[str, Any], store: Any, pool: ThreadPoolExecutor) -> int:
    """Fetch one object in ranges; return bytes."""
    size, step, key = order["size"], order["range_bytes"], order["path"]

    def fetch(start: int) -> int:
        return len(obstore.get_range(store, key, start=start, length=min(step, size - start)))

    return _sum(pool, fetch, range(0, size, step))


def files(order: dict[str, Any], store: Any, pool: ThreadPoolExecutor) -> int:
    """Fetch objects whole; return their number."""
    root = order["root"]
    total = _sum(pool, lambda name: len(obstore.get(store, f"{root}/{name}").bytes()), order["names"])
    if total != order["bytes"]:
        raise RuntimeError(f"{total} bytes read instead of {order['bytes']}")
    return len(order["names"])


def copy(order: dict[str, Any], store: Any, pool: ThreadPoolExecutor) -> int:
    """Fetch objects in ranges, those of the next one behind those of the one before; return bytes."""
    root, step = order["root"], order["range_bytes"]

    def fetch(piece: tuple[str, int, int]) -> int:
        name, start, length = piece
        return len(obstore.get_range(store, f"{root}/{name}", start=start, length=length))

    sizes = order["sizes"].items()
    total = _sum(pool, fetch, [(name, start, min(step, size - start)) for name, size in sizes for start in range(0, size, step)])
    if total != order["bytes"]:
        raise RuntimeError(f"{total} bytes read instead of {order['bytes']}")
    return total


def save(order: dict[str, Any], store: Any, pool: ThreadPoolExecutor) -> int:
    """Fetch objects into files, large ones in ranges; return bytes or files, as `amount` says."""
    root, target, step = order["root"], order["target"], order["range_bytes"]

    def whole(name: str) -> int:
        data = obstore.get(store, f"{root}/{name}").bytes()
        with open(os.path.join(target, name), "wb", buffering=0) as file:
            return file.write(data)

    def piece(start: int) -> int:
        data = obstore.get_range(store, f"{root}/{name}", start=start, length=min(step, size - start))
        return os.pwrite(fd, data, start)

    small = [name for name, size in order["files"].items() if size <= step]
    total = _sum(pool, whole, small)
    for name, size in order["files"].items():
        if size > step:
            fd = os.open(os.path.join(target, name), os.O_WRONLY | os.O_CREAT, 0o600)
            total += _sum(pool, piece, range(0, size, step))
            os.close(fd)
    if total != sum(order["files"].values()):
        raise RuntimeError(f"{total} bytes written")
    return int(order["amount"])


def upload(order: dict[str, Any], store: Any, pool: ThreadPoolExecutor) -> int:
    """Put objects, large ones in parts side by side; return bytes or files, as `job` says."""
    spec = importlib.util.spec_from_file_location("content", order["content"])
    assert spec is not None
    assert spec.loader is not None
    content = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(content)
    content.prepare()
    step, parallel = order["range_bytes"], order["concurrency"]

    def put(file: dict[str, Any]) -> int:
        pieces = content.pieces(file)
        if file["size"] > step:
            obstore.put(store, file["name"], pieces, use_multipart=True, chunk_size=step, max_concurrency=parallel)
        else:
            obstore.put(store, file["name"], b"".join(pieces), use_multipart=False)
        return int(file["size"])

    order["began"] = time.monotonic_ns()
    total = _sum(pool, put, order["files"])
    return total if order["job"] == "whole" else len(order["files"])


def walk(order: dict[str, Any], store: Any, pool: ThreadPoolExecutor) -> int:
    """List everything below a prefix; return the number of objects."""
    return sum(len(page) for page in obstore.list(store, prefix=order["root"], chunk_size=1000))


def _sum(pool: ThreadPoolExecutor, fetch: Callable[[Any], int], items: Iterable[Any]) -> int:
    return sum(pool.map(fetch, items))


def main() -> None:
    order = json.loads(sys.stdin.readline())
    job = {"stream": stream, "files": files, "copy": copy, "save": save, "upload": upload, "walk": walk}[order["do"]]
    store = open_store(order["bucket"])
    with ThreadPoolExecutor(order["concurrency"]) as pool:
        print("ready", flush=True)
        while sys.stdin.readline():
            cpu, order["began"] = time.process_time(), time.monotonic_ns()
            try:
                amount, error = job(order, store, pool), ""
            except Exception as failure:  # whatever the client raises is a failed measurement
                amount, error = 0, str(failure)
            ended = time.monotonic_ns()
            used = time.process_time() - cpu
            report = {"amount": amount, "began": order["began"], "ended": ended, "cpu": used, "error": error}
            print(json.dumps(report), flush=True)


main()
