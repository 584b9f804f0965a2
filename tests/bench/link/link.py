"""The bench's end of a link. Owns a TUN device, a process that carries packets, and with it a network namespace, for a `with`.

The kernel's own means (sch_netem) are not there in every kernel; this is the same wherever there are TUN devices. Nothing has a
name outside this process: device and namespace go with the processes that hold them.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from fusecache.base.units import MIB
from tests.bench.link import tun
from tests.support import piped_process
from tests.support.programs import find_program

BYTES_PER_SECOND = 200e6
ROUND_TRIP_SECONDS = 0.020
QUEUE_BYTES = (
    8 * MIB
)  # twice what is under way; with half of it 8 connections, each read 60 KiB at once, lost a tenth of the rate
NETWORK = ipaddress.ip_network("198.18.0.0/15")  # for benchmarks of networks (RFC 2544)


class Link:
    """Use as a context manager. It is as fast as it can until it is told to `slow_down`, as a store has to be filled first.

    Attributes:
        host: the store's address, reached through the link.
    """

    def __init__(self, bytes_per_second: float = BYTES_PER_SECOND, round_trip_seconds: float = ROUND_TRIP_SECONDS) -> None:
        self._order = {
            "bytes_per_second": bytes_per_second,
            "round_trip_seconds": round_trip_seconds,
            "queue_bytes": QUEUE_BYTES,
        }
        four = NETWORK[4 * (os.getpid() % (NETWORK.num_addresses // 4))]
        self._here, self.host = str(four + 1), str(four + 2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def launcher(self) -> list[str]:
        """Put before a command: it has the store's end of the link, and no other network."""
        assert self._process is not None
        return [find_program("nsenter") or "nsenter", f"--net=/proc/{self._process.pid}/ns/net"]

    def slow_down(self) -> None:
        """From now on it has its speed and its delay. Raises: OSError."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"slow\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"slow\n":
            raise OSError("the link ended; its error is on stderr")

    def __enter__(self) -> Self:
        """Raises: OSError."""
        name = f"fcbench{os.getpid()}"  # at most 15 letters
        device = tun.open_tun(name)
        try:
            tun.set_up(name, f"{self._here}/30")
            setpriv = shutil.which("setpriv")
            command = [*([setpriv, "--pdeathsig", "KILL"] if setpriv else []), find_program("unshare") or "unshare", "--net"]
            order = json.dumps({**self._order, "outside_fd": device, "address": f"{self.host}/30"})
            self._process = subprocess.Popen(
                [*command, sys.executable, "-m", "tests.bench.link.link_program", order],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[3],
                pass_fds=(device,),
                start_new_session=True,  # Ctrl-C in a terminal reaches the caller only
            )
        finally:
            os.close(device)  # the process has its own
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self._close()
            raise OSError("the link did not start; its error is on stderr")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            piped_process.end(process)
