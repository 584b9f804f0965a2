"""How a mount comes to its end: who wants it, what is waited for of what was written, who is told when it is over.

State: whether the end is wanted, and the answers that wait for it. In the supervisor's thread, on its loop. A mount that custody
has is not ours to unmount.
"""

from __future__ import annotations

import logging

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import WriteMode
from fusecache.custody.crew import Crew
from fusecache.custody.custody_client import CustodyMount
from fusecache.custody.event_loop import EventLoop
from fusecache.custody.fuse_mount import FuseMount
from fusecache.custody.mount_holders import describe_holders
from fusecache.custody.request_server import Reply

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0  # between what is told to whoever waits for files to be uploaded
THROUGH_SECONDS = 30.0  # when writing through, programs were told already what is not in the store

Mount = FuseMount | CustodyMount | None


class Ending:
    """What has been said of the end so far.

    Attributes:
        is_wanted: by anybody, for any reason; never taken back.
        is_superseded: another daemon has the mount, and waits for the cache: both are left to it.
    """

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._leaves_pending = False
        self._replies: list[Reply] = []
        self.is_wanted = False
        self.is_superseded = False

    def want(self) -> None:
        self.is_wanted = True

    def supersede(self) -> None:
        self.is_superseded = self.is_wanted = True

    def want_at_a_signal(self, mount: Mount) -> None:
        """The first one takes the mount away, busy or not; another one ends the waiting for uploads."""
        if self.is_wanted:
            self._leaves_pending = True
            return
        detach_quietly(mount)
        self.is_wanted = True

    def want_for(self, reply: Reply, mount: Mount, *, lazy: bool) -> None:
        """Unmount for whoever gets `reply` when all is gone. Raises: CacheError, BUSY for a mount in use unless `lazy`."""
        if not self.is_wanted:
            unmount(mount, lazy=lazy)
        self._replies.append(reply)
        self._leaves_pending = self._leaves_pending or lazy
        self.is_wanted = True

    def finish_writes(self, crew: Crew, mode: WriteMode) -> None:
        """Let what is not in the store get there, while whoever unmounts waits. The next mount finds what has to be left."""
        crew.finish_writes()
        self._tell_of_finishing(crew)
        patience = None if mode is WriteMode.BACK else THROUGH_SECONDS
        self._loop.run_until(lambda: self._leaves_pending or crew.pending == (0, 0), patience)
        if crew.pending and crew.pending[0]:
            log.warning("%d files are left to be uploaded by the next mount of the same sources", crew.pending[0])

    def tell_that_it_is_over(self) -> None:
        for reply in self._replies:
            reply({"done": True})

    def _tell_of_finishing(self, crew: Crew) -> None:
        if self._leaves_pending or crew.pending == (0, 0):
            return
        files, size = crew.pending or (0, 0)
        for reply in self._replies:
            reply({"waiting": True, "files": files, "bytes": size})
        self._loop.call_later(PROGRESS_SECONDS, lambda: self._tell_of_finishing(crew))


def unmount(mount: Mount, *, lazy: bool) -> None:
    """Unmount what is ours; what is in use only if `lazy`. Raises: CacheError."""
    if not isinstance(mount, FuseMount):
        return
    try:
        mount.unmount(detach=False)
    except CacheError as error:
        if error.kind is not ErrorKind.BUSY:
            raise
        if not lazy:
            holders = describe_holders(mount.mountpoint)
            raise CacheError(
                ErrorKind.BUSY, f"{error} (used by {holders}); end them, or use: fusecache umount --lazy {mount.mountpoint}"
            ) from error
        mount.unmount(detach=True)


def detach_quietly(mount: Mount) -> None:
    """Unmount, busy or not: we end anyway."""
    try:
        unmount(mount, lazy=True)
    except CacheError as error:
        log.error("%s", error)
