"""One mount from its spec to its end: prepares, mounts, keeps the descriptors, supervises, cleans up.

State: the lock, memfds, listening sockets, the FUSE mount and the crew. Everything runs in one thread on one event loop;
nothing here ever opens or stats the mount, so that a daemon that hangs cannot hang its supervisor. Run by `python -m
fusecache.custody`.

If the supervisor is killed, its children go on (they hold descriptors and lock themselves) until `unmount.py` ends them. Where
custody is a process of its own (custody_client.py), the mount is taken from it and left to it, and a successor ends them.
libfuse cannot skip INIT: when a pyfuse3 serve dies, the mount is replaced by a new one at the same place, and open files of the
old one fail.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusecache import __version__
from fusecache.base.run_sockets import listen_in
from fusecache.contract.errors import CacheError, ErrorKind, not_ready_in_time
from fusecache.contract.exit_status import exit_status_of
from fusecache.contract.mount_spec import Engine, MountSpec, Verify
from fusecache.contract.run_files import CONTROL_SOCKET, LOG_PREDECESSOR, MISS_SOCKET, MOUNT_STATE, SUPERVISOR_SOCKET
from fusecache.contract.shared_memory import WRITE_LANDING_BYTES, WRITE_SPARE_SLOTS, Layout
from fusecache.custody import custody_client, kernel, shared_files
from fusecache.custody.cache_lock import take_cache_lock
from fusecache.custody.child import Child
from fusecache.custody.crew import Crew, CrewConfig, CrewEvents
from fusecache.custody.custody_client import CustodyClient, CustodyMount
from fusecache.custody.ending import Ending, Mount, detach_quietly
from fusecache.custody.event_loop import HANGUP_ONLY, EventLoop, close_quietly
from fusecache.custody.favours import Favours
from fusecache.custody.fuse_mount import FuseMount, check_mountpoint, make_mount
from fusecache.custody.log_file import CHECK_SECONDS, last_line_of_children, rotate_if_large
from fusecache.custody.mount_table import (
    MountRecord,
    ProcessId,
    end_process,
    find_record,
    remove_leftovers,
    remove_run_dir,
)
from fusecache.custody.request_server import Reply, RequestServer

log = logging.getLogger(__name__)

LOCK_SECONDS, LOCK_LOOK_SECONDS = 10.0, 0.005  # that a predecessor may take to let go of the cache
MOUNT_LOOK_SECONDS = 0.1  # between questions for a mount that custody does not have yet
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """What `main` found out.

    Attributes:
        status_fd: gets one JSON line, {"state": "ready"} or {"state": "failed", "kind": ErrorKind, "message": SENTENCE}.
            -1 for none. If its reader goes away before the mount is ready, mounting is given up.
        log_fd: stdout and stderr of the children.
        log_path: "" in the foreground.
        timeout_seconds: how long mounting may take; 0: as long as whoever reads the status waits.
        environment: of the children.
        modules: role → module; other ones in tests.
        early: children that were started before the spec was known.
        custody: directory in which custody listens for this mount; "": the supervisor is custody itself.
        lock_fd: of the cache's lock, which whoever started us holds, and which stays ours; we wait until custody has a mount
            then. -1: the lock is ours to take.
    """

    spec_path: str
    status_fd: int
    log_fd: int
    log_path: str
    environment: Mapping[str, str]
    modules: Mapping[str, str]
    early: Sequence[Child] = ()
    timeout_seconds: float = 0.0
    custody: str = ""
    lock_fd: int = -1


class Supervisor:
    """Call `run` once."""

    def __init__(self, spec: MountSpec, config: SupervisorConfig) -> None:
        self._spec = spec
        self._config = config
        self._status_fd = config.status_fd
        self._engine = Engine.PYFUSE3 if spec.engine is Engine.PYFUSE3 else Engine.NATIVE
        self._serve_count = 1 if self._engine is Engine.PYFUSE3 else max(1, spec.serve_processes)
        self._began_at = time.monotonic()
        self._loop = EventLoop()
        self._ending = Ending(self._loop)
        self._resources = contextlib.ExitStack()  # closed last, in reverse order
        self._shared_memory = self._bounce = -1
        self._mount: Mount = None
        self._custody: CustodyClient | None = None
        self._favours: Favours | None = None
        self._crew: Crew | None = None
        self._server: RequestServer | None = None
        self._record = MountRecord(
            mountpoint=spec.mountpoint,
            dataset_id=spec.dataset_id,
            sources=[source.url for source in spec.sources],
            engine=self._engine.value,
            run_dir=spec.run_dir,
            state_dir=spec.state_dir,
            supervisor=ProcessId.of(os.getpid()),
            version=__version__,
        )

    def run(self) -> int:
        """Mount, serve until unmounted, clean up. Returns the exit status."""
        self._loop.catch_signals(STOP_SIGNALS, self._on_signal)
        try:
            self._refuse_other_mount()
        except CacheError as error:
            return self._fail(error)
        try:
            self._start()
        except (CacheError, OSError) as error:
            log.error("not mounted: %s", error)
            detach_quietly(self._mount)
            self._clean_up()
            return self._fail(error)
        self._report({"state": "ready"})
        self._loop.run_until(lambda: self._ending.is_wanted)
        if self._spec.read_write and not self._leaves_mount:
            assert self._crew is not None
            self._ending.finish_writes(self._crew, self._spec.write_mode)
        log.info("stopping")
        self._clean_up()
        return 0

    def _fail(self, error: CacheError | OSError) -> int:
        """Tell whoever started us, or the terminal; return the exit status."""
        kind = error.kind if isinstance(error, CacheError) else ErrorKind.BUG
        self._report({"state": "failed", "kind": int(kind), "message": str(error)})
        if not self._config.log_path:
            sys.stderr.write(f"fusecache: {error}\n")
        return exit_status_of(kind)

    # -- start -------------------------------------------------------------------------------------

    @property
    def _leaves_mount(self) -> bool:
        """Whether the mount goes on without us: custody has it, and a successor is there or will be."""
        return self._custody is not None and self._mount is not None and self._mount.is_connected()

    def _refuse_other_mount(self) -> None:
        """Leave a run directory alone of which something lives. Raises: CacheError(BUSY)."""
        if self._config.custody:
            return  # its daemon is told to end
        with contextlib.suppress(OSError, ValueError):
            other = MountRecord.load(self._spec.run_dir)
            if not other.is_leftover:
                raise CacheError(
                    ErrorKind.BUSY,
                    f"{other.mountpoint!r} is already mounted; unmount it first with: fusecache umount {other.mountpoint}",
                )

    def _start(self) -> None:
        """Raises: CacheError, OSError. Whatever was made by then, `_clean_up` takes away."""
        started = time.monotonic()
        spec = self._spec
        root = os.path.dirname(spec.run_dir)
        if not self._config.custody:
            for mountpoint in remove_leftovers(root, spec.run_dir):
                log.info("removed what a dead mount at %r had left", mountpoint)
            self._check_mountpoint(root)
        os.makedirs(spec.run_dir, mode=0o700, exist_ok=True)
        os.chmod(spec.run_dir, 0o700)
        crew = self._crew = self._make_crew()
        crew.warm_up()
        self._server = RequestServer(self._loop, listen_in(spec.run_dir, SUPERVISOR_SOCKET, socket.SOCK_STREAM), self._on_request)
        self._store_record()
        if self._status_fd >= 0:
            self._loop.register(self._status_fd, self._on_starter_gone, HANGUP_ONLY)
        self._wait_started(lambda: crew.is_fetch_ready)
        log.info("fetch is ready after %.0f ms", (time.monotonic() - started) * 1000)
        if self._custody is None:
            self._make_mount()
        elif isinstance(self._mount, CustodyMount):
            crew.use_mount(self._mount, self._custody)
        crew.launch_first_serve()
        self._wait_started(lambda: crew.is_session_open)
        crew.launch_serves()  # nobody waits for the others: the first one answers
        assert self._mount is not None
        self._record.read_ahead_problem = self._mount.raise_read_ahead()
        self._record.mounted_at = time.time()
        crew.begin_running()
        self._on_change()
        if self._config.log_path:
            self._look_after_log()
        log.info("mounted on %r after %.0f ms", self._record.mountpoint, (time.monotonic() - started) * 1000)

    def _check_mountpoint(self, root: str) -> None:
        mountpoint = self._spec.mountpoint
        record = find_record(root, mountpoint)
        if record is not None and record.is_mounted and not record.is_supervised:
            raise CacheError(
                ErrorKind.BUSY,
                f"a mount whose supervisor died lies at {mountpoint!r}; clear it with: fusecache umount {mountpoint}",
            )
        check_mountpoint(mountpoint)

    def _make_crew(self) -> Crew:
        spec, config, keep = self._spec, self._config, self._resources
        is_initialized = False
        if config.custody:
            self._custody = CustodyClient(config.custody, self._loop, self._ending.supersede, self._on_custody_back)
            keep.callback(self._custody.close)
            self._take_over(self._custody)
            is_initialized = custody_client.is_initialized(self._custody.shared_memory)
        lock_fd = self._take_lock() if config.lock_fd < 0 else config.lock_fd
        keep.callback(close_quietly, lock_fd)
        if self._custody is None:
            self._make_memory()
            keep.callback(close_quietly, self._shared_memory, self._bounce)
        else:
            self._shared_memory, self._bounce = self._custody.shared_memory, self._custody.bounce
        miss = keep.enter_context(listen_in(spec.run_dir, MISS_SOCKET, socket.SOCK_SEQPACKET))
        control = keep.enter_context(listen_in(spec.run_dir, CONTROL_SOCKET, socket.SOCK_STREAM))
        crew_config = CrewConfig(
            spec_path=config.spec_path,
            engine=self._engine,
            serve_count=self._serve_count,
            may_passthrough=self._may_passthrough and spec.verify is not Verify.ALWAYS,
            modules=config.modules,
            environment=config.environment,
            lock_fd=lock_fd,
            log_fd=config.log_fd,
            fetch_fds=(self._shared_memory, self._bounce, miss.fileno(), control.fileno()),
            early=config.early,
        )
        last_words = functools.partial(last_line_of_children, config.log_path)
        events = CrewEvents(self._on_change, self._on_mount_gone, self._renew_mount, last_words)
        crew = Crew(self._loop, crew_config, events)
        if is_initialized and self._custody is not None and isinstance(self._mount, CustodyMount):
            crew.use_mount(self._mount, self._custody)  # before fetch starts: the connection is not a fresh one
        return crew

    @property
    def _may_passthrough(self) -> bool:
        return kernel.may_open_backing() if self._custody is None else kernel.has_passthrough()

    def _take_over(self, custody: CustodyClient) -> None:
        """Take the mount from custody, and end what a predecessor left. Raises: CacheError."""
        self._mount = mount = self._wait_for_mount(custody)
        if mount.is_read_only == self._spec.read_write:
            made = "read-only" if mount.is_read_only else "for writing"
            raise CacheError(
                ErrorKind.UNSUPPORTED, f"custody's mount was made {made}, and the spec wants the other: unmount, and mount again"
            )
        if len(mount.fds) != self._serve_count:
            log.warning("custody's mount was made for %d serve processes, not %d", len(mount.fds), self._serve_count)
            self._serve_count = len(mount.fds)
        self._record.device, self._record.mountpoint = mount.device, mount.mountpoint
        with contextlib.suppress(OSError, ValueError):
            for process in MountRecord.load(self._spec.run_dir).daemons:
                end_process(process)

    def _wait_for_mount(self, custody: CustodyClient) -> CustodyMount:
        """Return the mount; if who started us has the cache for us, as soon as custody has one to give. Raises: CacheError."""
        said = ""
        while True:
            try:
                return custody.take()
            except CacheError as error:
                if self._config.lock_fd < 0 or error.kind not in (ErrorKind.UNAVAILABLE, ErrorKind.NOT_FOUND):
                    raise
                if str(error) != said:
                    said = str(error)
                    log.warning("waiting for the mount: %s", said)
            if self._loop.run_until(lambda: self._ending.is_wanted, MOUNT_LOOK_SECONDS):
                raise CacheError(ErrorKind.INTERRUPTED, "mounting was interrupted")

    def _take_lock(self) -> int:
        """Return the lock of the cache; where custody has the mount, as soon as the predecessor has let go of it."""
        deadline = time.monotonic() + (LOCK_SECONDS if self._custody is not None else 0.0)
        while True:
            try:
                return take_cache_lock(self._spec.state_dir, self._spec.mountpoint)
            except CacheError as error:
                if error.kind is not ErrorKind.BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(LOCK_LOOK_SECONDS)

    def _make_memory(self) -> None:
        spec = self._spec
        layout = Layout(self._serve_count)
        if spec.read_write:
            layout = Layout(self._serve_count, landing_bytes=WRITE_LANDING_BYTES, spare_slots=WRITE_SPARE_SLOTS)
        self._shared_memory = shared_files.make_shared_memory(layout)
        self._bounce = shared_files.make_bounce_buffer()

    def _wait_started(self, condition: Callable[[], bool]) -> None:
        crew = self._crew
        assert crew is not None
        patience = None
        if self._config.timeout_seconds:
            patience = max(0.0, self._began_at + self._config.timeout_seconds - time.monotonic())
        in_time = self._loop.run_until(lambda: condition() or crew.start_failure is not None or self._ending.is_wanted, patience)
        if crew.start_failure is not None:
            raise crew.start_failure
        if self._ending.is_wanted:
            raise CacheError(ErrorKind.INTERRUPTED, "mounting was interrupted")
        if not in_time:
            raise not_ready_in_time([source.url for source in self._spec.sources], self._config.timeout_seconds)

    def _make_mount(self) -> None:
        spec = self._spec
        self._mount = mount = make_mount(
            spec.mountpoint, self._serve_count, allow_other=spec.allow_other, read_write=spec.read_write
        )
        allow_passthrough = mount.is_read_only and spec.verify is not Verify.ALWAYS
        tier_paths = [tier.path for tier in spec.tiers]
        self._favours = Favours(mount.fds[0], tier_paths, allow_passthrough=allow_passthrough)
        self._record.device = mount.device
        assert self._crew is not None
        self._crew.use_mount(mount, self._favours)

    def _renew_mount(self) -> None:
        """Replace the mount by a new connection at the same place. Raises: CacheError."""
        if isinstance(self._mount, FuseMount):
            self._mount.unmount(detach=True)
            self._mount.abort()
            self._mount.close()
        shared_files.forget_session(self._shared_memory)
        self._make_mount()

    # -- events ------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        log.info("received %s", signal.Signals(number).name)
        self._ending.want_at_a_signal(self._mount)

    def _on_custody_back(self) -> None:
        if self._crew is not None:
            self._crew.replace_serves()

    def _on_starter_gone(self) -> None:
        self._loop.unregister(self._status_fd)
        self._ending.want()

    def _on_mount_gone(self) -> None:
        log.info("the mount was taken away from outside")
        self._ending.want()

    def _on_request(self, request: dict[str, Any], reply: Reply) -> None:
        """Raises: CacheError, which is the answer."""
        if request.get("do") == "status":
            self._refresh_record()
            reply({"done": True, **asdict(self._record)})
        elif request.get("do") == "umount":
            if self._leaves_mount:
                raise CacheError(ErrorKind.NOT_PERMITTED, "custody has the mount: it is taken away by whoever had it made")
            self._ending.want_for(reply, self._mount, lazy=bool(request.get("lazy")))
        elif request.get("do") == "yield":
            if not self._leaves_mount:
                raise CacheError(ErrorKind.NOT_PERMITTED, "the mount is not custody's: nobody else could go on with it")
            log.info("another daemon waits for the cache, and gets it")
            reply({"done": True})
            self._ending.supersede()
        else:
            raise CacheError(ErrorKind.INVALID, f"unknown request {request.get('do')!r}; it is umount, status or yield")

    def _on_change(self) -> None:
        if self._crew is not None and self._server is not None and not self._ending.is_superseded:
            self._store_record()

    def _store_record(self) -> None:
        self._refresh_record()
        try:
            self._record.store()
        except OSError as error:
            log.error("%s was not written: %s", MOUNT_STATE, error)

    def _refresh_record(self) -> None:
        crew, record = self._crew, self._record
        assert crew is not None
        record.fetch = _process_of(crew.fetch) if crew.fetch else None
        record.serve = [_process_of(crew.serves[index]) for index in sorted(crew.serves)]
        record.spares = [_process_of(child) for child in crew.spares]
        record.restarts = crew.restarts
        record.index_rebuilds = crew.index_rebuilds
        record.access = crew.access
        record.last_error = crew.last_error
        if self._favours is not None:
            record.passthrough_problem = self._favours.problem
        if self._ending.is_wanted:
            record.state = "stopping"
        elif crew.is_running:
            record.state = "degraded" if crew.last_error else "ready"

    def _look_after_log(self) -> None:
        with contextlib.suppress(OSError):
            if rotate_if_large(self._config.log_path, self._config.log_fd):
                log.info("the log began anew; what was in it is in %s", LOG_PREDECESSOR)
        self._loop.call_later(CHECK_SECONDS, self._look_after_log)

    # -- end ---------------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        """Take everything away that `_start` made; each step regardless of the others."""
        self._ending.want()
        mount = self._mount
        if self._crew is not None and self._ending.is_superseded:
            self._crew.end_at_once()
        elif self._crew is not None:
            self._crew.stop(mount.abort if isinstance(mount, FuseMount) else lambda: None)
        if mount is not None:
            mount.close()
        is_refused = self._custody is not None and mount is None  # all that lies there belongs to who has the mount
        if not self._ending.is_superseded and not is_refused:
            remove_run_dir(self._spec.run_dir)
        self._resources.close()
        self._ending.tell_that_it_is_over()
        if self._server is not None:
            self._server.close()

    def _report(self, message: Mapping[str, Any]) -> None:
        """Tell whoever started us, once."""
        if self._status_fd < 0:
            return
        self._loop.unregister(self._status_fd)
        with contextlib.suppress(OSError):
            os.write(self._status_fd, json.dumps(message).encode() + b"\n")
        close_quietly(self._status_fd)
        self._status_fd = -1


def _process_of(child: Child) -> ProcessId:
    return ProcessId(child.pid, child.start_time)
