"""Names of the files of one mount. Nobody spells them a second time.

Run directory (`/run/fusecache/<id>` for root, else `$XDG_RUNTIME_DIR/fusecache/<id>`, mode 0700), removed at umount:

| name | written by | read by |
|---|---|---|
| spec.json | command line | supervisor, fetch, serve |
| mount.json | supervisor, after each change | status, umount, doctor, mount |
| log | supervisor, fetch, serve (unless --foreground) | people |
| log.1 | supervisor: what was in the log when it became too large | people |
| miss.sock | supervisor listens, fetch accepts (SEQPACKET) | serve, peer: contract/messages.py |
| control.sock | supervisor listens, fetch accepts (STREAM, JSON lines) | status, warm, drop, refresh: contract/control.py |
| supervisor.sock | supervisor (STREAM, JSON lines) | umount, status |
| problem | pod: one sentence, why it does not serve | node plugin, for whoever waits for the mount |

State directory (`<cache>/<dataset id>`), survives the mount:

| name | written by | meaning |
|---|---|---|
| lock | supervisor, or pod for it: exclusive OFD lock while the mount lives | one owner |
| standby | pod: shared OFD lock while it waits for `lock` | whoever has `lock` lets go at once when it is told to end |
| index/ | fetch | LMDB environment |
| marks | fetch creates, serve writes one byte a slot | access marks for eviction |
| ballast | fetch | released when the disk is full, since deleting needs pages too |
| clean | fetch, after syncfs at a clean stop; removed at start | the index may be trusted after a reboot |
| stage/ | fetch makes and removes, serve writes | what was written and is not uploaded yet (tiers/stage.py) |
| kept/ | fetch | what was written and cannot be uploaded, as the store has something else by now (fetch/kept_aside.py) |
| boot_id | fetch, at start | whose page cache vouches for index and MEM tiers |
"""

from __future__ import annotations

SPEC = "spec.json"
MOUNT_STATE = "mount.json"
LOG = "log"
LOG_PREDECESSOR = "log.1"
MISS_SOCKET = "miss.sock"
CONTROL_SOCKET = "control.sock"
SUPERVISOR_SOCKET = "supervisor.sock"
PROBLEM = "problem"

LOCK = "lock"
STANDBY = "standby"
INDEX_DIR = "index"
MARKS = "marks"
BALLAST = "ballast"
CLEAN_MARKER = "clean"
BOOT_ID = "boot_id"
STAGE_DIR = "stage"
KEPT_DIR = "kept"
