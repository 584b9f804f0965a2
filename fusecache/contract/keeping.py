"""What custody and the supervisors of cache daemons say to each other, where custody is a process of its own.

Custody (`python -m fusecache.custody.keeper`) makes FUSE mounts and keeps all that must outlive a daemon: the descriptors of the
mount, the shared memory of its requests, the bounce buffer, and the table of backing ids. Its root directory:

| name | meaning |
|---|---|
| keeper.json | "pid", "start_time" (field 22 of /proc/PID/stat) of the custody that runs, or ran last |
| keeper.lock | locked by the custody that runs: there is one for a directory |
| admin.sock | STREAM, JSON lines, for root: what to mount, below |
| journal/ID.json | each mount, before it is made and until it is gone; synced |
| mounts/ID/custody.sock | SEQPACKET, one JSON object a datagram, for the daemon's uid: that mount's supervisor |
| mounts/ID/.kept | made by whoever needs the directory for longer than the mount: it is not removed |

admin.sock (an answer has "done": true; an error "error": SENTENCE, "kind": ErrorKind)


    {"do": "mount", "id", "mountpoint", "serve_count", "read_write", "allow_other", "uid", "tiers": [PATH], "passthrough": bool}
        -> {"device"}; a mount that is there is left as it is
    {"do": "unmount", "id", "detach": bool, "abort": bool} -> {}; the daemon sees its connection end, and finishes what was
        written. "abort": nobody answers in the mount, so that even unmounting could wait for ever
    {"do": "list"} -> {"mounts": {ID: {"mountpoint", "device", "has_daemon", "is_held", "is_initialized", "is_connected",
        "volumes"}}, "descriptors": how many it holds}. "is_held": it has the descriptors; without, a daemon has not brought them
        back yet, or there was none for too long. "is_initialized": a daemon has answered INIT on the connection.
        "is_connected": the connection was not ended
    {"do": "use", "id", "volumes": [ID]} -> {}; noted in the journal

custody.sock, from the supervisor

    {"do": "take", "version": STATE_VERSION}
        -> {"did": "given", "device", "mountpoint", "read_only", "serve_count"} with `GIVEN_FDS` and a FUSE descriptor for each
        serve process; whoever had them before is told "end". Or {"did": "refused", "kind", "error"}
    {"do": "favours"} with the other end of a favour channel of serve: custody answers on it (contract/process.py)
    {"do": "return", "version", "device"} with the same descriptors, after custody was started again
        -> {"did": "kept"}, or "refused": another daemon has the mount
    {"do": "read_ahead"} -> {"did": "read_ahead", "problem": SENTENCE or ""}

custody may say {"do": "end"}: another daemon takes over, the mount is to be left alone.
"""

from __future__ import annotations

ADMIN_SOCKET = "admin.sock"
KEEPER_FILE = "keeper.json"
LOCK_FILE = "keeper.lock"
JOURNAL_DIR = "journal"
MOUNTS_DIR = "mounts"
CUSTODY_SOCKET = "custody.sock"
KEPT_MARK = ".kept"

STATE_VERSION = 1  # of the shared memory and of the favour table: a daemon of another one refuses to take over
GIVEN_FDS = ("shared_memory", "bounce", "favour_table")
GRACE_SECONDS = 300.0  # without a daemon; then the connection is ended, so that nothing hangs for ever
MAX_DATAGRAM_BYTES = 16 << 10
MAX_FDS = 3 + 64
