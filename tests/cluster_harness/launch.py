"""`python -m tests.cluster_harness.launch SPEC`: start one process, in a new box or in one that is there.

Runs as a process of its own for each start, because namespaces are joined by a whole process; standard library only. The order
makes the start safe against its own death: the new process waits for a byte until its pid and start time are on the disk, so
there is none that `removal.py` cannot find.

SPEC is a JSON object:

| field | meaning |
|---|---|
| cgroups | list of cgroup.procs files to enter first |
| join | pid and start_time of a box's first process; absent: make a new box |
| root, read_only, host_name, net_settings | of a new box: see root_file_system.enter; name -> value below /proc/sys/net |
| record | file that gets {"pid", "start_time", "command"}; written once, by rename |
| log | file that standard output and error are appended to |
| command, environment | what to become; the path is looked for inside the box |

Exit code: 0 once the process was let go; what becomes of it shows in its log.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from typing import Any

from tests.cluster_harness import root_file_system

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
WITHOUT_MOUNTS = CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    spec = json.loads(sys.argv[1])
    for path in spec["cgroups"]:
        with open(path, "w") as file:
            file.write(str(os.getpid()))
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    box = _open_box(spec["join"]) if "join" in spec else None
    if box is None:
        _check(_libc.unshare(WITHOUT_MOUNTS), "unshare")
    else:
        _check(_libc.setns(box, WITHOUT_MOUNTS), "setns")
    waiting, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        _become(spec, box, waiting, log)
    _write_record(spec["record"], {"pid": child, "start_time": start_time(child), "command": spec["command"]})
    os.write(release, b"1")


def start_time(pid: int) -> int:
    """Return field 22 of /proc/PID/stat. Raises: FileNotFoundError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def _open_box(first: dict[str, int]) -> int:
    """Return a pidfd of a box's first process. Raises: RuntimeError if it is gone."""
    try:
        descriptor = os.pidfd_open(first["pid"])
        if start_time(first["pid"]) == first["start_time"]:  # looked at after opening: the pid cannot change hands any more
            return descriptor
    except (ProcessLookupError, FileNotFoundError):
        pass
    raise RuntimeError(f"the box is gone: its first process, {first['pid']}, has ended")


def _become(spec: dict[str, Any], box: int | None, waiting: int, log: int) -> None:
    """The new process: never returns."""
    try:
        if os.read(waiting, 1) != b"1":
            os._exit(1)  # who started us died before it could write us down
        os.setsid()
        for descriptor, target in ((os.open("/dev/null", os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        if box is None:
            _check(_libc.unshare(CLONE_NEWNS), "unshare mounts")
            root_file_system.enter(spec["root"], spec["read_only"])
            socket.sethostname(spec["host_name"])
            for name, value in spec["net_settings"].items():
                with open(f"/proc/sys/net/{name}", "w") as file:
                    file.write(value)
        else:
            _check(_libc.setns(box, CLONE_NEWNS), "setns mounts")
        os.chdir("/")
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and its children would
            signal.signal(number, signal.SIG_DFL)
        os.execve(spec["command"][0], spec["command"], spec["environment"])
    except BaseException as error:
        os.write(2, f"launch: {error}\n".encode())
        os._exit(127)


def _write_record(path: str, content: dict[str, Any]) -> None:
    with open(path + ".new", "w") as file:
        file.write(json.dumps(content))
    os.rename(path + ".new", path)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
