"""What whoever starts a native engine decides, and whom it asks for passthrough. No state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of one engine.

    Attributes:
        passthrough: ask the kernel for FUSE_PASSTHROUGH in INIT (needs favours, and custody to be root).
        writes: programs may write; the filesystem is a WritableFilesystem.
        ask_resend: negotiate FUSE_HAS_RESEND in INIT. Off in tests that show the request slots alone to be enough.
        resend: request slots were lost: let the kernel send again all it has no answer to, after the replay.
        max_background: background requests (read-ahead, asynchronous direct I/O) that may wait. At 64, 64 stalled reads stop the
            hits on other files; at 2048 they do not.
        max_pages: largest READ, in pages; 256 is 1 MiB and the kernel's own default limit.
        max_readahead_bytes: upper bound for the kernel's read-ahead; what it really does is set through /sys/class/bdi.
        switch_interval_seconds: how long a thread may keep the interpreter while another waits for it (`sys.setswitchinterval`).
            Measured with 5, 0.5 and 0.1 ms, also beside a thread that computes 4 of every 6 ms: no difference above the noise of
            two shared virtual cores (99 % of small reads within 2.5-5.6 ms beside that thread), so it stays at CPython's own
            value.
        spin_seconds: how long a reading thread looks for the next request before it sleeps; 0: sleeps at once. Waking a thread
            on an idle virtual CPU takes about 100 us, longer than answering; the thread yields to whoever wants the CPU. Small
            files a second with a lone reader, two processes: 4,300 without, 6,400 with 100 us.
        calm_seconds: for how long it sleeps at once after it saw another process answer at the same time: then there is more than
            one reader, who need the cores themselves (with two readers 14,700 without spinning, 10,200 with it). A guess.
    """

    passthrough: bool = False
    checks_opens: bool = False  # of `writes`: fetch is asked about every open
    writes: bool = False
    ask_resend: bool = True
    resend: bool = False
    max_background: int = 2048
    max_pages: int = 256
    max_readahead_bytes: int = 16 << 20
    switch_interval_seconds: float = 0.005
    spin_seconds: float = 0.0001
    calm_seconds: float = 0.002


class Favours(Protocol):
    """The favour channel to the privileged supervisor (contract/process.py). Thread-safe; one question at a time, answered at
    once."""

    def open_file(self, inode: int, unique: int, container_fd: int) -> int | None:
        """Count an open of the inode and return the backing id for passthrough, or None for reading through serve.

        `container_fd` is a complete container or -1; it stays the caller's. A repetition with the same unique counts once.
        Raises: OSError if the supervisor cannot be asked."""

    def release_file(self, inode: int, unique: int) -> None:
        """Count the end of an open. Raises: OSError if the supervisor cannot be told."""
