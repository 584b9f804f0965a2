"""Foreign readers as jobs of the reader program, which runs this file by its path.

Each takes an order, and `begin` to call when the work itself begins; it returns an amount, and raises RuntimeError if it found
other than it was to find. Where the work ends before the job does, `ended` is put into the order.

In the first pass every byte is checked (`thorough`), which costs time of its own; that pass is not counted. In the others what is
read is counted, and checked as far as the reader itself looks at it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Begin = Callable[[], None]
AHEAD = 2  # batches that each process of a loader prepares before they are asked for, as torch's do
_PR_SET_PDEATHSIG = 1


def model(order: dict[str, Any], begin: Begin) -> int:
    """Load every tensor of a file of safetensors into memory, one after the other; return bytes."""
    import xxhash
    from safetensors import safe_open

    digest = xxhash.xxh3_128()
    size = tensors = 0
    thorough = order["thorough"]
    begin()
    with safe_open(os.path.join(order["root"], order["name"]), framework="numpy") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            size += tensor.nbytes
            tensors += 1
            if thorough:
                digest.update(tensor)
    _compare("tensors", tensors, order["tensors"])
    _compare("bytes", size, order["bytes"])
    if thorough:
        _compare("digest", digest.hexdigest(), order["digest"])
    return size


def parquet(order: dict[str, Any], begin: Begin) -> int:
    """Read some columns and add them up; return bytes of these columns."""
    import pyarrow.compute
    import pyarrow.parquet

    begin()
    table = pyarrow.parquet.read_table(os.path.join(order["root"], order["name"]), columns=order["columns"])
    sums = [pyarrow.compute.sum(table[name]).as_py() for name in order["columns"]]
    _compare("sums", sums, order["expected"])
    return int(order["bytes"])


def tar(order: dict[str, Any], begin: Begin) -> int:
    """Unpack an archive onto the tmpfs; return its bytes."""
    target = order["target"]
    shutil.rmtree(target, ignore_errors=True)
    os.mkdir(target)
    try:
        begin()
        _run(["tar", "xf", os.path.join(order["root"], order["name"]), "-C", target])
        order["ended"] = time.monotonic_ns()
        names = os.listdir(target)
        _compare("members", len(names), order["members"])
        if order["thorough"]:
            crc = 0
            for name in names:
                with open(os.path.join(target, name), "rb") as file:
                    crc += zlib.crc32(file.read())
            _compare("sum of CRC-32", crc, order["crc"])
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return int(order["bytes"])


def grep(order: dict[str, Any], begin: Begin) -> int:
    """Search all files for a fixed string; return their bytes."""
    begin()
    found = _run(["grep", "-r", "-a", "-h", "-o", "-F", order["mark"], order["root"]])
    _compare("lines", found.splitlines(), [order["mark"]] * order["expected"])
    return int(order["bytes"])


def sqlite(order: dict[str, Any], begin: Begin) -> int:
    """Scan a table and look rows up by their ids, on a connection that is opened for reading only; return the file's bytes."""
    begin()
    database = sqlite3.connect(f"file:{os.path.join(order['root'], order['name'])}?mode=ro{order.get('sqlite', '')}", uri=True)
    try:
        scanned = database.execute("SELECT count(*), sum(value), sum(length(body)) FROM facts").fetchone()
        looked_up = sum(database.execute("SELECT value FROM facts WHERE id = ?", (one,)).fetchone()[0] for one in order["ids"])
    finally:
        database.close()
    _compare("rows, sum, bytes", list(scanned), [order["rows"], order["sum"], order["body_bytes"]])
    _compare("rows looked up", looked_up, order["looked_up"])
    return int(order["bytes"])


def loader(order: dict[str, Any], begin: Begin) -> int:
    """Read files in batches by several processes, which hand them over in shared memory; return the number of files.

    As in torch's DataLoader each process has a queue of its own, prepares `AHEAD` batches, and one queue brings what is ready.
    The processes are there before the clock starts.
    """
    import numpy

    context = multiprocessing.get_context("fork")
    names, size, batch = order["names"], order["file_bytes"], order["batch"]
    ready = context.SimpleQueue()
    queues = [context.SimpleQueue() for _ in range(order["processes"])]
    slots = [[context.RawArray("B", size * batch) for _ in range(AHEAD)] for _ in queues]
    workers = [
        context.Process(
            target=_load, args=(order["root"], size, order["thorough"], number, queue, ready, slots[number]), daemon=True
        )
        for number, queue in enumerate(queues)
    ]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.get()
    pending = iter([names[start : start + batch] for start in range(0, len(names), batch)])
    under_way = files = total = crc = sample = 0
    begin()
    for slot in range(AHEAD):
        for queue in queues:
            under_way += _order_next(queue, slot, pending)
    while under_way:
        number, slot, count, count_bytes, count_crc, error = ready.get()
        under_way -= 1
        if error:
            raise RuntimeError(error)
        images = numpy.frombuffer(slots[number][slot], numpy.uint8, count * size).reshape(count, size)
        sample += int(images[:, : order["sample_bytes"]].copy().view("<u8").sum(dtype="u8"))
        files, total, crc = files + count, total + count_bytes, crc + count_crc
        under_way += _order_next(queues[number], slot, pending)
    order["ended"] = time.monotonic_ns()
    for queue in queues:
        queue.put(None)
    for worker in workers:
        worker.join()
    _compare("files and bytes", [files, total], [len(names), order["bytes"]])
    _compare("sum of first bytes", sample % (1 << 64), order["sample"])
    if order["thorough"]:
        _compare("sum of CRC-32", crc, order["crc"])
    return files


def _order_next(queue: Any, slot: int, pending: Any) -> int:
    """Give a process its next batch; return how many that are."""
    names = next(pending, None)
    if names is None:
        return 0
    queue.put((slot, names))
    return 1


def _load(root: str, size: int, thorough: bool, number: int, queue: Any, ready: Any, slots: Sequence[Any]) -> None:
    """What a process of a loader does, until it is given None; it ends with its parent, whatever it waits for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    ready.put(number)
    while (given := queue.get()) is not None:
        slot, names = given
        view = memoryview(slots[slot]).cast("B")
        total = crc = 0
        error = ""
        try:
            for position, name in enumerate(names):
                with open(os.path.join(root, name), "rb") as file:
                    data = file.read()
                view[position * size : (position + 1) * size] = data
                total += len(data)
                crc += zlib.crc32(data) if thorough else 0
        except (OSError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        ready.put((number, slot, len(names), total, crc, error))


def _run(command: Sequence[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def _compare(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise RuntimeError(f"{what}: {str(found)[:200]} instead of {str(expected)[:200]}")
