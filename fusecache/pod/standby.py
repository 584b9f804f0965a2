"""The turn of a pod: who has the lock of the cache serves; who has not stands by, and is seen to.

State: the lock's open file, which is the supervisor's, too, and that of the mark for those who wait. A thread waits for the lock:
the kernel wakes it when the last process of the pod before has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

from fusecache.contract.run_files import STANDBY
from fusecache.custody import kernel
from fusecache.custody.cache_lock import note_holder


class Turn:
    def __init__(self, lock_fd: int, state_dir: str) -> None:
        self._lock_fd = lock_fd
        self._mark = os.path.join(state_dir, STANDBY)

    def take_nowait(self) -> bool:
        """Take the lock if nobody has it."""
        return kernel.lock_exclusively(self._lock_fd)

    async def wait(self) -> None:
        """Return when the lock is ours. Cancellation: the thread goes on waiting, and ends with the process."""
        loop = asyncio.get_running_loop()
        taken = asyncio.Event()

        def wait_in_thread() -> None:
            kernel.wait_for_exclusive_lock(self._lock_fd)
            with contextlib.suppress(RuntimeError):  # the loop ended
                loop.call_soon_threadsafe(taken.set)

        mark = os.open(self._mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            kernel.lock_shared(mark)
            threading.Thread(target=wait_in_thread, daemon=True, name="turn").start()
            await taken.wait()
        finally:
            os.close(mark)

    def leave_to_supervisor(self, mountpoint: str) -> None:
        """The lock, which was taken, is the supervisor's alone from now on: who waits need not wait for our end, too."""
        note_holder(self._lock_fd, mountpoint)
        os.close(self._lock_fd)

    @property
    def somebody_waits(self) -> bool:
        """Whether a pod stands by for ours to end."""
        try:
            mark = os.open(self._mark, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return not kernel.lock_exclusively(mark)
        finally:
            os.close(mark)
