"""A fetch that fetches nothing: it speaks the control protocol, and does the misdeeds that files in FAKE_DIR ask of it.

Started by the supervisor as `python -m tests.support.fake_fetch FD`. Every START is appended to FAKE_DIR/starts as a JSON line.
Files: index_id: what it reports. fetch.fail: says failed with this text. fetch.exit: ends with this status after START (minus:
the signal). fetch.ready_then_exit: the same after ready. fetch.cold: it still imports. A file `X.once` is removed when obeyed.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from tests.support.fake_child import Control, end, misdeed, note_start

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def main() -> None:
    control = Control(int(sys.argv[1]))
    while misdeed("fetch.cold"):
        time.sleep(0.01)
    control.tell({"did": "warm"})
    message, _fds = control.receive()
    if message is None:
        return
    note_start("fetch", message)
    if text := misdeed("fetch.fail"):
        control.tell({"did": "failed", "kind": 4, "message": text})
        end("1")
    if status := misdeed("fetch.exit"):
        end(status)
    index_id = misdeed("index_id") or "00"
    if message["drop_index"]:
        index_id += "-new"
    control.tell({"did": "ready", "index_id": index_id, "access": "passthrough"})
    if status := misdeed("fetch.ready_then_exit"):
        end(status)
    while True:
        order, _ = control.receive()
        if order is None:
            signal.pause()  # the supervisor died: go on
        elif order["do"] == "ping":
            control.tell({"did": "pong"})
        elif order["do"] == "stop":
            note_start("fetch-stopped", order)
            return


main()
