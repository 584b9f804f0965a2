"""A mount that exists on paper: a run directory with its record, and a control socket that answers from a script."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fusecache.base.run_sockets import listen_in
from fusecache.contract.run_files import CONTROL_SOCKET, SPEC
from fusecache.custody.mount_table import MountRecord, ProcessId

Script = Callable[[dict[str, Any]], Iterable[dict[str, Any] | None]]
"""Request → answers; None drops the connection."""


class ScriptedMount:
    """Its supervisor is this process unless `dead`; without a script it listens and never answers."""

    def __init__(
        self, run_base: Path, mountpoint: str, script: Script | None = None, *, dead: bool = False, spec: str = ""
    ) -> None:
        self.run_dir = run_base / mountpoint.strip("/").replace("/", "_")
        self.run_dir.mkdir(parents=True)
        if spec:
            (self.run_dir / SPEC).write_text(spec)
        me = ProcessId.of(os.getpid())
        self.record = MountRecord(
            mountpoint=mountpoint,
            dataset_id="id",
            sources=["s3://bucket"],
            engine="native",
            run_dir=str(self.run_dir),
            state_dir="/nowhere",
            supervisor=ProcessId(me.pid, me.start_time + 1) if dead else me,
            state="ready",
            access="openless",
            fetch=None if dead else me,
            restarts=3,
        )
        self.record.store()
        self.requests: list[dict[str, Any]] = []
        self._script = script
        self._listener = listen_in(str(self.run_dir), CONTROL_SOCKET, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        if script is not None:
            self._thread.start()

    def _serve(self) -> None:
        assert self._script is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                line = stream.readline()
                if not line:
                    continue
                request = json.loads(line)
                self.requests.append(request)
                for answer in self._script(request):
                    if answer is None:
                        break
                    stream.write(json.dumps(answer).encode() + b"\n")
                    stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.ident is not None:
            self._thread.join(5)
