"""The pyfuse3 engine of one serve process: libfuse's session on an inherited descriptor, and the end of it.

State: libfuse's (one session a process). Runs Trio in the thread that calls `run`. The same filesystem, the same counters and
errno as the native engine; what libfuse cannot do is left out: no OPEN-less mode, no passthrough, no INTERRUPT, one serve
process only."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import pyfuse3
import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import PAGE, Layout
from fusecache.fuse.filesystem_protocol import Filesystem, MissClient
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.notify import Notifier
from fusecache.fuse.pyfuse3.operations import CacheOperations
from fusecache.fuse.pyfuse3.session_bridge import SessionBridge

_MAX_TASKS = 4096  # each request that waits for fetch keeps one; when all wait, hits wait too. Twice max_background


class Pyfuse3Engine:
    """Serves one /dev/fuse descriptor until the mount is gone. Arguments as `NativeEngine`."""

    def __init__(
        self,
        fuse_fd: int,
        shared_memory: mmap.mmap,
        layout: Layout,
        serve_index: int,
        filesystem: Filesystem,
        misses: MissClient,
    ) -> None:
        if layout.serve_count != 1:
            raise CacheError(ErrorKind.UNSUPPORTED, "the pyfuse3 engine has one serve process; mount with --serve-processes 1")
        page = layout.serve_counters(serve_index)
        counters = memoryview(shared_memory)[page : page + PAGE].cast("Q")
        self._operations = CacheOperations(filesystem, misses, counters)
        self._bridge = SessionBridge(fuse_fd, shared_memory, layout, serve_index)
        self._notifier = Notifier(Device(fuse_fd), filesystem)
        misses.on_invalidate(self._notifier.put)

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until the file system is unmounted or its connection aborted. `on_ready` as in `NativeEngine.run`."""
        # No mount options: the supervisor gave them to mount(2). libfuse takes this "mount point" as a descriptor.
        pyfuse3.init(self._operations, f"/dev/fd/{self._bridge.session_fd}", set())
        try:
            self._bridge.start(on_ready)
            self._notifier.start()
            trio.run(_serve)
        finally:
            pyfuse3.close(unmount=False)


async def _serve() -> None:
    await pyfuse3.main(max_tasks=_MAX_TASKS)
