"""One serve without a kernel: answers READ requests, byte for byte such as the kernel sends, from a cache that was made before.

Run by `replay.py` with the spec of the cache. It says "ready"; each further line is how many seconds to answer for, and is
reported with one line of JSON: requests, CPU seconds. Answers go to /dev/null, so what is missing is the kernel's copy.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import struct
import sys
import time
from pathlib import Path

from fusecache.contract import run_files
from fusecache.contract.mount_spec import Access, MountSpec
from fusecache.contract.shared_memory import PAGE, Layout
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.executor import Executor
from fusecache.fuse.native.operations import Operations
from fusecache.fuse.native.protocol import IN_HEADER_START, Opcode
from fusecache.fuse.native.session import Session
from fusecache.fuse.native.settings import EngineSettings
from fusecache.index.index import Index
from fusecache.index.inodes import ROOT
from fusecache.serve.filesystem import CacheFilesystem
from fusecache.tiers.marks import Marks
from tests.support.recorded_misses import RecordedMisses

HEADER = struct.Struct("<IIQQIIIHH")  # struct fuse_in_header
READ_IN = struct.Struct("<QQIIQII")  # struct fuse_read_in
READ_BYTES = 128 << 10  # what a file of 100 KiB is asked for with


def requests(index: Index) -> list[bytes]:
    """Return one READ for each file of the cache, from its beginning on."""
    found = []
    with index.read() as txn:
        for unique, name in enumerate(index.names.after(txn, ROOT, 0, 1 << 20), 1):
            body = READ_IN.pack(0, 0, READ_BYTES, 0, 0, 0, 0)
            header = HEADER.pack(HEADER.size + len(body), Opcode.READ, unique * 2, name.inode, 0, 0, os.getpid(), 0, 0)
            found.append(header + body)
    return found


def main() -> None:
    spec = MountSpec.from_json(Path(sys.argv[1]).read_text())
    first, step = int(sys.argv[2]), int(sys.argv[3])
    index = Index(Path(spec.state_dir) / run_files.INDEX_DIR, writable=False)
    counters = memoryview(bytearray(PAGE)).cast("Q")
    marks = Marks(Path(spec.state_dir) / run_files.MARKS)
    filesystem = CacheFilesystem(
        index, marks, spec, RecordedMisses(), counters, access=Access.OPENLESS, source_urls={}, clock=time.time
    )
    layout = Layout(1)
    device = Device(os.open(os.devnull, os.O_WRONLY))
    session = Session(mmap.mmap(-1, layout.total_bytes), layout, device, EngineSettings())
    execute = Executor(Operations(filesystem, session, None, counters, lambda: None).rows, device, counters).execute
    mine = requests(index)[first::step]
    print("ready", flush=True)
    while line := sys.stdin.readline():
        deadline = time.monotonic() + float(line)
        cpu, count = time.process_time(), 0
        for request in itertools.cycle(mine):
            length, opcode, unique, inode = IN_HEADER_START.unpack_from(request)
            if execute(request, length, opcode, unique, inode) <= 0:
                raise RuntimeError(f"inode {inode} was not answered with bytes")
            count += 1
            if count % 64 == 0 and time.monotonic() >= deadline:
                break
        print(json.dumps({"requests": count, "cpu": time.process_time() - cpu}), flush=True)


main()
