"""The daemons of one mount: one fetch, N serves, and a warm spare of each; the dead are replaced at once.

State: the children, their index id, what went wrong. Called from the supervisor's loop; nothing here blocks but `stop`, which
runs the loop meanwhile. Roles, messages and exit codes: contract/process.py.

Invariants: one fetch at most has been started; serves are started only with the index id of a fetch that was ready; after
`stop` began nothing is started any more; a spare is made up for later, never while readers wait for a replacement.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Engine
from fusecache.custody.child import FETCH, SERVE, Child
from fusecache.custody.custody_client import CustodyClient, CustodyMount
from fusecache.custody.event_loop import EventLoop
from fusecache.custody.favours import Favours
from fusecache.custody.fuse_mount import FuseMount
from fusecache.custody.heartbeat import Heartbeat
from fusecache.custody.restart_policy import Death, RestartPolicy

log = logging.getLogger(__name__)

# The replacement gets the processor first. With the 0.3 s that a daemon takes to import, a spare is there again before the
# next death where one comes every 0.7 s.
SPARE_DELAY_SECONDS = 0.2
MAX_SPARE_DELAY_SECONDS = 60.0
REBUILD_RETRY_SECONDS = 0.5
START_ATTEMPTS = 3
SERVE_STOP_SECONDS = 3.0
FETCH_STOP_SECONDS = 10.0  # it writes the clean marker after a syncfs
KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CrewConfig:
    """How daemons are started.

    Attributes:
        modules: role → module that `python -m` runs.
        environment: of the children; credentials may be in it.
        may_passthrough: kernel and privileges allow handing containers to the kernel.
        lock_fd: inherited by all, so that the cache stays locked while any of them lives.
        log_fd: their stdout and stderr.
        fetch_fds: shared memory, bounce, miss listener, control listener.
        early: children that import already; they have neither lock nor log.
    """

    spec_path: str
    engine: Engine
    serve_count: int
    may_passthrough: bool
    modules: Mapping[str, str]
    environment: Mapping[str, str]
    lock_fd: int
    log_fd: int
    fetch_fds: tuple[int, int, int, int]
    early: Sequence[Child] = ()


@dataclass(frozen=True, slots=True)
class CrewEvents:
    """What the crew tells the supervisor. `renew_mount` is asked before a pyfuse3 serve is replaced: libfuse cannot skip INIT."""

    changed: Callable[[], None]
    mount_gone: Callable[[], None]
    renew_mount: Callable[[], None]
    last_log_line: Callable[[], str]


@dataclass(slots=True)
class Spares:
    """Children of one role that wait for START."""

    waiting: list[Child] = field(default_factory=list)
    is_planned: bool = False
    failures: int = 0  # spares in a row that died


class Crew:
    """See the module.

    Attributes:
        start_failure: why the mount cannot come up; set only before `is_running`.
        is_running: the mount was up once; from then on whatever fails is tried again.
        pending: after `finish_writes`: files that wait to be uploaded, and their bytes; None before fetch has said.
    """

    def __init__(self, loop: EventLoop, config: CrewConfig, events: CrewEvents) -> None:
        self._loop = loop
        self._config = config
        self._events = events
        self._policy = RestartPolicy()
        self._heartbeat = Heartbeat(loop, self._watched)
        self._spares = {FETCH: Spares(), SERVE: Spares()}
        self._generation = 0
        self._start_deaths = 0
        self._drop_index = False  # until a fetch said ready
        self._rebuilding = False
        self._stopping = False
        self._finishing = False
        self._mount: FuseMount | CustodyMount | None = None
        self._favours: Favours | CustodyClient | None = None
        self.fetch: Child | None = None
        self.serves: dict[int, Child] = {}
        self.index_id = ""
        self.access = ""
        self.restarts = 0
        self.index_rebuilds = 0
        self.last_error = ""
        self.start_failure: CacheError | None = None
        self.is_running = False
        self.pending: tuple[int, int] | None = None

    # -- what the supervisor asks ------------------------------------------------------------------

    @property
    def is_fetch_ready(self) -> bool:
        return self.fetch is not None and self.fetch.is_ready

    @property
    def is_complete(self) -> bool:
        """Everybody is there and ready."""
        return (
            self.is_fetch_ready
            and len(self.serves) == self._config.serve_count
            and all(one.is_ready for one in self.serves.values())
        )

    def _watched(self) -> list[Child]:
        """Whom to ask for signs of life."""
        started = [*([self.fetch] if self.fetch else []), *self.serves.values()]
        return [] if self._stopping else [child for child in started if child.is_ready]

    @property
    def spares(self) -> list[Child]:
        return [child for spares in self._spares.values() for child in spares.waiting]

    def warm_up(self) -> None:
        """Start a process of each kind, so that they import side by side, and set fetch to work. Further serves come when the
        first one answers: they would only delay it."""
        for child in self._config.early:
            child.adopt(self._config.log_fd, self._config.lock_fd)
            self._watch(child)
            self._spares[child.role].waiting.append(child)
        for role in (FETCH, SERVE):
            if not self._spares[role].waiting:
                self._add_spare(role)
        self._launch(FETCH)

    def use_mount(self, mount: FuseMount | CustodyMount, favours: Favours | CustodyClient) -> None:
        """Serves started from now on get this mount."""
        self._mount, self._favours = mount, favours

    @property
    def is_session_open(self) -> bool:
        """Serve 0 has answered INIT."""
        return 0 in self.serves and self.serves[0].is_ready

    def launch_first_serve(self) -> None:
        """Start the one that answers INIT.

        If others were reading too, any of them might get it, and serve 0 would never be ready.
        """
        self._launch(SERVE, 0)

    def launch_serves(self) -> None:
        """Start those that are not there."""
        for index in range(self._config.serve_count):
            self._launch(SERVE, index)

    def begin_running(self) -> None:
        """The mount is up."""
        self.is_running = True
        self._heartbeat.begin()
        for role in self._spares:
            self._plan_spare(role)

    def replace_serves(self) -> None:
        """Let their spares go on: who answers favours has changed, and with it their channels."""
        for child in self.serves.values():
            child.is_replaced = True
            child.kill()

    def end_at_once(self) -> None:
        """Kill everybody: another daemon waits for the cache."""
        self._stopping = True
        for child in (*([self.fetch] if self.fetch else []), *self.serves.values(), *self.spares):
            child.kill()
        self._loop.run_until(lambda: self.fetch is None and not self.serves and not self.spares, KILL_SECONDS)

    def finish_writes(self) -> None:
        """The mount is gone: let fetch bring up what is not in the store. `pending` says how far it is."""
        self._finishing = True
        self.pending = None
        if self.fetch is not None and self.fetch.is_ready:
            self.fetch.ask_to_finish()

    def stop(self, abort_connection: Callable[[], None]) -> None:
        """End all children: serves first, then fetch, which writes its clean marker; who does not end in time is killed."""
        self._stopping = True
        for child in self.spares:
            child.kill()
        for child in self.serves.values():
            if not child.is_ready:  # it imports, and would hear of it late
                child.kill()
            child.ask_to_stop()
        if not self._loop.run_until(lambda: not self.serves, SERVE_STOP_SECONDS):
            log.warning("serve did not end within %g s; aborting the connection", SERVE_STOP_SECONDS)
            abort_connection()
            if not self._loop.run_until(lambda: not self.serves, 1.0):
                for child in self.serves.values():
                    child.kill()
        if self.fetch is not None:
            if not self.fetch.is_ready:  # it may wait for a store that does not answer, and has written nothing yet
                self.fetch.kill()
            self.fetch.ask_to_stop()
            if not self._loop.run_until(lambda: self.fetch is None, FETCH_STOP_SECONDS):
                log.warning("fetch did not end within %g s and is killed", FETCH_STOP_SECONDS)
                self.fetch.kill()
        if not self._loop.run_until(lambda: self.fetch is None and not self.serves and not self.spares, KILL_SECONDS):
            log.error(
                "processes that cannot be killed are left: %s", [child.pid for child in (*self.serves.values(), *self.spares)]
            )

    # -- starting ----------------------------------------------------------------------------------

    def _spawn(self, role: str) -> Child:
        config = self._config
        child = Child(role, config.modules[role], config.environment, (config.lock_fd,), config.log_fd)
        self._watch(child)
        return child

    def _watch(self, child: Child) -> None:
        self._loop.register(child.pidfd, lambda: self._on_exit(child))
        self._loop.register(child.channel.fileno(), lambda: self._on_message(child))

    def _launch(self, role: str, index: int = -1) -> None:
        """Start `role` from its spare, or from nothing if there is none."""
        is_there = self.fetch is not None if role == FETCH else index in self.serves
        if self._stopping or is_there or (role == SERVE and (self._rebuilding or self._mount is None)):
            return
        waiting = self._spares[role].waiting
        try:
            child = waiting.pop(0) if waiting else self._spawn(role)
        except CacheError as error:
            self._note_error(error)
            self._launch_after(1.0, role, index)
            return
        self._generation += 1
        if role == FETCH:
            self._start_fetch(child)
        else:
            self._start_serve(child, index)
        if self.is_running:
            self._plan_spare(role)

    def _launch_after(self, seconds: float, role: str, index: int) -> None:
        if seconds <= 0:
            self._launch(role, index)
        else:
            self._loop.call_later(seconds, lambda: self._launch(role, index))

    def _start_fetch(self, child: Child) -> None:
        self.fetch = child
        message = {
            "spec": self._config.spec_path,
            "generation": self._generation,
            "drop_index": self._drop_index,
            "fresh_connection": self._mount is None,
            "passthrough": self._config.may_passthrough,
        }
        child.start(message, self._config.fetch_fds)

    def _start_serve(self, child: Child, index: int) -> None:
        assert self._mount is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child.serve_index = index
        self.serves[index] = child
        if isinstance(self._favours, CustodyClient):
            with ours:
                self._favours.pass_favours_on(ours)
        else:
            ours.setblocking(False)
            child.favour_channel = ours
            self._loop.register(ours.fileno(), lambda: self._on_favour(child))
        message = {
            "spec": self._config.spec_path,
            "generation": self._generation,
            "serve_index": index,
            "index_id": self.index_id,
        }
        with theirs:
            child.start(message, (*self._config.fetch_fds[:2], theirs.fileno(), self._mount.fds[index]))

    def _plan_spare(self, role: str) -> None:
        """Make up for a used spare, later; ever later if spares die by themselves."""
        spares = self._spares[role]
        if spares.is_planned or spares.waiting or self._stopping:
            return
        spares.is_planned = True

        def make() -> None:
            spares.is_planned = False
            if not self._stopping and not spares.waiting:
                try:
                    self._add_spare(role)
                except CacheError as error:
                    spares.failures += 1
                    log.warning("no spare %s: %s", role, error)
                    return self._plan_spare(role)
                self._events.changed()

        self._loop.call_later(min(SPARE_DELAY_SECONDS * 2 ** min(spares.failures, 10), MAX_SPARE_DELAY_SECONDS), make)

    def _add_spare(self, role: str) -> None:
        self._spares[role].waiting.append(self._spawn(role))

    # -- what children do --------------------------------------------------------------------------

    def _on_favour(self, child: Child) -> None:
        channel = child.favour_channel
        if channel is not None and isinstance(self._favours, Favours) and not self._favours.answer_all(channel):
            self._loop.unregister(channel.fileno())

    def _on_message(self, child: Child) -> None:
        if not self._drain(child) and child.channel.fileno() >= 0:
            self._loop.unregister(child.channel.fileno())  # closed: its pidfd tells the rest

    def _drain(self, child: Child) -> bool:
        """Handle all waiting messages; False if there was none."""
        heard = False
        while (message := child.receive()) is not None:
            heard = True
            if message.get("did") == "ready" and child.is_started:
                self._became_ready(child, message)
            elif message.get("did") == "failed":
                child.failure = _failure_of(message)
            elif message.get("did") == "finishing" and child is self.fetch:
                self.pending = int(message["files"]), int(message["bytes"])
            elif message.get("did") == "pong":
                self._heartbeat.answered(child)
        return heard

    def _became_ready(self, child: Child, message: Mapping[str, Any]) -> None:
        child.is_ready = True
        self._policy.became_ready(child.role)
        self._spares[child.role].failures = 0
        if child is self.fetch:
            self._fetch_became_ready(str(message.get("index_id", "")), str(message.get("access", "")))
            if self._finishing:
                child.ask_to_finish()
        if self.is_complete:
            self.last_error = ""
        self._events.changed()

    def _fetch_became_ready(self, index_id: str, access: str) -> None:
        is_other_index = index_id != self.index_id
        self.index_id, self.access = index_id, access
        self._drop_index = False
        if self._rebuilding:
            self._rebuilding = False
            self.launch_serves()
        elif is_other_index:
            for serve in self.serves.values():
                serve.is_replaced = True
                serve.kill()

    def _on_exit(self, child: Child) -> None:
        self._drain(child)
        self._loop.unregister(child.pidfd)
        self._loop.unregister(child.channel.fileno())
        if child.favour_channel is not None:
            self._on_favour(child)
            self._loop.unregister(child.favour_channel.fileno())
        status = child.reap()
        if not child.is_started:
            return self._spare_ended(child, status)
        if child is self.fetch:
            self.fetch = None
        else:
            self.serves.pop(child.serve_index, None)
        if self._stopping:
            return
        if child.is_replaced:
            self._replaced_ended(child)
        elif child.role == SERVE and self._finishing:
            pass  # the mount is gone, and only fetch has something left to do
        elif child.role == SERVE and self._mount is not None and not self._mount.is_connected():
            self._events.mount_gone()
        else:
            self._replace(child, status)
        self._events.changed()

    def _spare_ended(self, child: Child, status: int) -> None:
        spares = self._spares[child.role]
        if child in spares.waiting:
            spares.waiting.remove(child)
        spares.failures += 1
        if not self._stopping:
            log.warning("the spare %s ended with status %d", child.role, status)
        if self.is_running:
            self._plan_spare(child.role)

    def _replaced_ended(self, child: Child) -> None:
        if not self._rebuilding:
            self._launch(child.role, child.serve_index)
        elif self.fetch is None and not self.serves:
            self._launch(FETCH)

    def _replace(self, child: Child, status: int) -> None:
        """Start another for a child that died unasked, as the policy says."""
        now = time.monotonic()
        death = Death(child.role, status, child.is_ready, child.failure is not None, now - child.started_at)
        decision = self._policy.died(death, now)
        if not self.is_running and self._gives_up(child, status):
            return
        delay = decision.delay_seconds
        if decision.rebuild_index and self._rebuilding:
            delay = REBUILD_RETRY_SECONDS
        elif decision.rebuild_index:
            self.restarts += 1
            return self._rebuild(child, status)
        if child.role == SERVE and self._config.engine is Engine.PYFUSE3:
            try:
                self._events.renew_mount()
            except CacheError as error:
                self._note_error(error)
                delay = 1.0
        self._launch_after(delay, child.role, child.serve_index)
        self.restarts += 1
        log.warning("%s (pid %d) ended with status %d and is replaced", child.name, child.pid, status)
        if child.failure is not None:
            self._note_error(child.failure)
        elif not child.is_ready:
            self.last_error = f"{child.name} died before it was ready (status {status})"
        if decision.is_first_wait:
            said = f"{child.name} crashes again and again soon after its start (status {status})"
            log.error("%s; from now on it is started ever later, up to once a second; the lines above say why it ends", said)
            self.last_error = said

    def _note_error(self, error: CacheError) -> None:
        if str(error) != self.last_error:
            log.error("%s", error)
        self.last_error = str(error)

    def _gives_up(self, child: Child, status: int) -> bool:
        """Whether starting has failed for good: a child said why, or children died too often."""
        self._start_deaths += 1
        if child.failure is not None:
            self.start_failure = child.failure
        elif self._start_deaths >= START_ATTEMPTS:
            said = self._events.last_log_line()
            reason = f" saying {said!r}" if said else ""
            self.start_failure = CacheError(
                ErrorKind.BUG,
                f"the {child.role} process ended with status {status}{reason}; run with --foreground to see its log",
            )
        return self.start_failure is not None

    def _rebuild(self, culprit: Child, status: int) -> None:
        """End everybody who has the index open, then let fetch make a new one."""
        log.error("%s ended with status %d: the index is damaged and is made anew", culprit.name, status)
        self._rebuilding = self._drop_index = True
        self.index_rebuilds += 1
        for child in (*([self.fetch] if self.fetch else []), *self.serves.values()):
            child.is_replaced = True
            child.kill()
        if self.fetch is None and not self.serves:
            self._launch(FETCH)


def _failure_of(message: Mapping[str, Any]) -> CacheError:
    try:
        kind = ErrorKind(int(message.get("kind", ErrorKind.BUG)))
    except ValueError:
        kind = ErrorKind.BUG
    return CacheError(kind, str(message.get("message", "no reason was given; see the log")))
