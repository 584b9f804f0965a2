"""Boxes: namespaces with a root directory of their own, and the programs in them.

A `Box` owns nothing in memory: what is there is read from DIRECTORY/boxes/<name>/ each time, so that any process may work on a
cluster that another one started. `programs/<program>.json` and `first.json` are written by launch.py.
Nothing here is ended by name: a process is its pid and its start time, and a box ends with its first process, as the kernel then
ends every other process of its process namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fusecache.custody.mount_table import ProcessId, end_process
from tests.cluster_harness import cgroups, skeleton

CHECKOUT = Path(__file__).parents[2]
LAUNCH_SECONDS = 20.0
END_SECONDS = 60.0  # killed processes may have to wait for a busy disk
FIRST = "/opt/pause/pause"  # waits, and reaps what other processes leave behind
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "AWS_EC2_METADATA_DISABLED": "true",
}
NET_SETTINGS = {"ipv4/ip_forward": "1"}


class BoxError(Exception):
    """Something in a box did not start or did not end; says which and what its log ends with."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process of a box, as launch.py wrote it down."""

    process: ProcessId
    command: list[str]

    @classmethod
    def load(cls, path: Path) -> Program | None:
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(ProcessId(raw["pid"], raw["start_time"]), raw["command"])


# A mount that is taken along into another mount namespace.
BIND = """
import ctypes, os, sys
from csi.mounting.syscalls import move_mount, open_tree
directory, pid, target = sys.argv[1:]
tree = open_tree(-100, directory)
libc = ctypes.CDLL(None, use_errno=True)
if libc.setns(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), 0x20000):  # os.setns comes with Python 3.12
    raise OSError(ctypes.get_errno(), "setns")
move_mount(tree, os.open(target, os.O_PATH | os.O_DIRECTORY))
"""


@dataclass(frozen=True, slots=True)
class Box:
    """One box of the cluster below `directory`; `cgroup` is the cluster's."""

    directory: Path
    cgroup: str
    name: str

    @property
    def home(self) -> Path:
        return self.directory / "boxes" / self.name

    @property
    def root(self) -> Path:
        """The root directory as the machine sees it: what is on disk, without the mounts."""
        return self.home / "root"

    @property
    def first(self) -> ProcessId | None:
        program = Program.load(self.home / "first.json")
        return program.process if program else None

    @property
    def is_alive(self) -> bool:
        return (first := self.first) is not None and first.is_alive

    def log(self, program: str) -> Path:
        return self.directory / "logs" / f"{self.name}-{program}.log"

    def make(self, hosts: Mapping[str, str], name_server: str, programs: Mapping[str, str]) -> None:
        """Make the box.

        Args:
            programs: directory on the machine -> mount point in the box, read-only; FIRST must be below one.
        Raises: BoxError.
        """
        (self.home / "programs").mkdir(parents=True)
        (self.directory / "logs").mkdir(exist_ok=True)
        skeleton.write(self.root, self.name, dict(hosts), name_server, programs.values())
        cgroups.make_box(self.cgroup, self.name)
        self._launch(
            "first", self.home / "first.json", [FIRST], root=str(self.root), host_name=self.name, net_settings=NET_SETTINGS,
            read_only={**skeleton.read_only_mounts(), **programs},
        )  # fmt: skip
        self._wait_made()

    def start(self, program: str, command: Sequence[str]) -> None:
        """Start a program that stays; its output goes to `log(program)`. Raises: BoxError."""
        first = self._require_first()
        join = {"pid": first.pid, "start_time": first.start_time}
        self._launch(program, self._record(program), list(command), join=join)

    def program(self, name: str) -> Program | None:
        """Return what is recorded of a program; its process may have ended."""
        return Program.load(self._record(name))

    def programs(self) -> dict[str, Program]:
        found = {path.stem: Program.load(path) for path in sorted((self.home / "programs").glob("*.json"))}
        return {name: program for name, program in found.items() if program}

    def stop(self, name: str) -> None:
        """Kill one program, as a crash would; whatever it started goes on. Raises: BoxError."""
        if (program := self.program(name)) is not None:
            end_process(program.process)
            wait_ended([program.process], f"{name} of {self.name}")

    def restart(self, name: str) -> None:
        """Kill a program and start it again with the command it had. Raises: BoxError."""
        program = self.program(name)
        if program is None:
            raise BoxError(f"{self.name} has no program {name}; it has {', '.join(self.programs())}")
        self.stop(name)
        self.start(name, program.command)

    def entering(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs `command` inside, as a child: it waits for its end and passes its exit code on.

        Raises: BoxError if the box is gone.
        """
        first = self._require_first()
        return ["nsenter", f"--target={first.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--", *command]

    def run(self, command: Sequence[str], *, stdin: IO[bytes] | None = None, timeout_seconds: float = 60.0) -> str:
        """Run a command inside and return what it printed. Raises: BoxError."""
        done = subprocess.run(
            self.entering(command), stdin=stdin or subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT,
            timeout=timeout_seconds,
        )  # fmt: skip
        if done.returncode != 0:
            raise BoxError(f"{' '.join(command)} in {self.name}: {done.stderr.decode(errors='replace').strip()[-2000:]}")
        return done.stdout.decode(errors="replace")

    def bind(self, directory: Path, target: str) -> None:
        """Show a directory of the machine inside, at a path that is made if need be. Raises: BoxError."""
        self.run(["mkdir", "-p", target])
        command = [sys.executable, "-c", BIND, str(directory), str(self._require_first().pid), target]
        done = subprocess.run(command, capture_output=True, cwd=CHECKOUT, timeout=LAUNCH_SECONDS)
        if done.returncode != 0:
            raise BoxError(f"{directory} in {self.name}: {done.stderr.decode(errors='replace').strip()[-2000:]}")

    def kill(self) -> None:
        """End every process of the box, as if the node's power were cut; its mounts and interfaces go with them."""
        if (first := self.first) is not None:
            end_process(first)

    def _record(self, program: str) -> Path:
        return self.home / "programs" / f"{program}.json"

    def _require_first(self) -> ProcessId:
        first = self.first
        if first is None or not first.is_alive:
            raise BoxError(f"{self.name} is not running")
        return first

    def _launch(self, program: str, record: Path, command: list[str], **more: object) -> None:
        spec = {
            "cgroups": cgroups.process_files(self.cgroup, self.name), "record": str(record), "log": str(self.log(program)),
            "command": command, "environment": ENVIRONMENT, **more,
        }  # fmt: skip
        launcher = [sys.executable, "-S", "-m", "tests.cluster_harness.launch", json.dumps(spec)]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(
            launcher, capture_output=True, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, timeout=LAUNCH_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise BoxError(f"{program} of {self.name} did not start: {done.stderr.decode(errors='replace').strip()[-2000:]}")

    def _wait_made(self) -> None:
        """Wait until the first process has become what it shall be: the root directory is in place then."""
        first = self.first
        assert first is not None
        deadline = time.monotonic() + LAUNCH_SECONDS
        while not self._has_become_first(first):
            if not first.is_alive or time.monotonic() > deadline:
                raise BoxError(f"{self.name} could not be made: {tail(self.log('first'))}")
            time.sleep(0.01)

    def _has_become_first(self, first: ProcessId) -> bool:
        try:
            return Path(f"/proc/{first.pid}/cmdline").read_bytes() == FIRST.encode() + b"\0"
        except OSError:
            return False


def wait_ended(processes: Sequence[ProcessId], what: str) -> None:
    """Wait for processes that were killed. Raises: BoxError."""
    deadline = time.monotonic() + END_SECONDS
    while any(process.is_alive for process in processes):
        if time.monotonic() > deadline:
            raise BoxError(f"{what} was killed and is still there after {END_SECONDS:.0f} s")
        time.sleep(0.02)


def tail(log: Path, characters: int = 2000) -> str:
    """Return the end of a log."""
    try:
        return log.read_text(errors="replace")[-characters:].strip() or "(its log is empty)"
    except FileNotFoundError:
        return "(it has no log)"
