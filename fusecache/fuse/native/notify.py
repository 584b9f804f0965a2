"""Telling the kernel what to forget: notify_inval_inode and notify_inval_entry, from a thread of their own.

Such a notification blocks while a READ or LOOKUP of the object is unanswered, so no thread that answers requests may send one.
State: a bounded queue, filled by the miss client's answer thread, emptied by the notifier's thread.
"""

from __future__ import annotations

import errno
import logging
import queue
import stat
import threading

from fusecache.contract.errors import CacheError
from fusecache.contract.messages import Answer, Op
from fusecache.fuse.filesystem_protocol import Filesystem, Miss
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.protocol import NOTIFY_INVAL_ENTRY_OUT, NOTIFY_INVAL_INODE_OUT, Notify

_log = logging.getLogger(__name__)

# A refresh that finds a directory of some ten thousand replaced files fits; one message is ~200 bytes, so the bound is ~13 MB.
# What does not fit is dropped: the kernel's own time to live ends it, later.
_QUEUE_LENGTH = 1 << 16
_ENDED = frozenset({errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN, errno.EPERM})


class Notifier:
    """Sends INVALIDATE_* messages of fetch on to the kernel.

    Attributes:
        dropped: how many found the queue full.
    """

    def __init__(self, device: Device, filesystem: Filesystem) -> None:
        self._device = device
        self._filesystem = filesystem
        self._queue: queue.Queue[Answer] = queue.Queue(_QUEUE_LENGTH)
        self.dropped = 0

    def put(self, answer: Answer) -> None:
        """Queue one message; never blocks."""
        try:
            self._queue.put_nowait(answer)
        except queue.Full:
            if not self.dropped:
                _log.warning(
                    "more than %d changes wait to be told to the kernel; it keeps some names until their TTL ends", _QUEUE_LENGTH
                )
            self.dropped += 1

    def start(self) -> None:
        threading.Thread(target=self._run, name="notify", daemon=True).start()

    def _run(self) -> None:
        while True:
            answer = self._queue.get()
            try:
                self._send(answer)
            except OSError as error:
                if error.errno in _ENDED:
                    return
                if error.errno != errno.ENOENT:  # ENOENT: the kernel does not know it anyway
                    _log.warning("the kernel refused %s of inode %d: %s", answer.op.name, answer.inode, error)
            except Exception:
                _log.exception("cannot pass %s of inode %d on to the kernel", answer.op.name, answer.inode)

    def _send(self, answer: Answer) -> None:
        if answer.op is Op.INVALIDATE_ENTRY:
            payload = NOTIFY_INVAL_ENTRY_OUT.pack(answer.inode, len(answer.name), 0) + answer.name + b"\0"
            self._device.notify(Notify.INVAL_ENTRY, payload)
        elif answer.op is Op.INVALIDATE_INODE:
            # Offset 0 drops the pages, which in a directory hold the kernel's copy of the listing. A file's pages stay (offset
            # -1: attributes only): its inode is one version, whose bytes do not change.
            offset = 0 if self._is_directory(answer.inode) else -1
            self._device.notify(Notify.INVAL_INODE, NOTIFY_INVAL_INODE_OUT.pack(answer.inode, offset, 0))

    def _is_directory(self, inode: int) -> bool:
        try:
            return stat.S_ISDIR(self._filesystem.getattr(inode)[0].mode)
        except (CacheError, Miss):
            return False
