"""Sessions of writing: a contender is opened on an empty bucket of its own, written to, and closed.

Owns the buckets while they are written to. Called by `SessionRunner`, from the one thread of the bench. After a close has
returned, what was written has to be in the store; who brings it there later is measured until it is. In the first round
every byte is compared, in the store where it lies there as it was written, and through the mount.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fusecache.base.units import MIB
from tests.bench import kernel_caches
from tests.bench.columns import BY_NAME, Column, Job
from tests.bench.contenders.contender import Contender, ContenderError, Place, Setup
from tests.bench.dataset import BIG_NAME, WRITES
from tests.bench.figures import Accounts, Figure
from tests.bench.readers import READER, Readers, Reading, started_readers
from tests.bench.settings import MIDDLE_NAME, READ_BYTES, WRITTEN_SMALL_BYTES, Settings
from tests.bench.writing import content
from tests.bench.writing.relay import Relay
from tests.bench.writing.stored import WrittenBucket
from tests.support.seaweed import Seaweed

JOBS = Path(__file__).with_name("writer_jobs.py")
MOST_READS = 5  # in the figure of reading back, each after pages were dropped
File = Mapping[str, Any]


class Work(NamedTuple):
    """What writers do for a column. `job`: their function in writer_jobs.py; `there`: files have to be there before."""

    job: str
    files: Sequence[File]
    there: bool = False

    @property
    def directories(self) -> list[str]:
        return sorted({file["name"].rpartition("/")[0] for file in self.files} - {""})


class WriteSessions:
    def __init__(self, settings: Settings, server: Seaweed) -> None:
        self._settings = settings
        self._server = server
        self._buckets = 0

    def run(
        self, columns: Sequence[str], setup: Setup, contender: Contender, number: int, wanted: Collection[str], *, verify: bool
    ) -> list[Figure]:
        """Return the figures of the columns that are wanted; the first of `columns` is the writing. Raises: as SessionRunner."""
        column = BY_NAME[columns[0]]
        work = self._work(column, number)
        self._buckets += 1
        with contextlib.ExitStack() as stack:
            bucket = stack.enter_context(WrittenBucket(self._server, f"written-{self._buckets}"))
            relay = stack.enter_context(Relay(self._server.endpoint_url)) if column.job is Job.PATCH else None
            if work.there and contender.plain_objects:
                for file in work.files:
                    bucket.put(file)
            setup = setup._replace(bucket=bucket.name, endpoint_url="" if relay is None else relay.endpoint_url)
            place = stack.enter_context(contender.open(WRITES, setup))
            self._make_ready(place, work, contender)
            sent = 0 if relay is None else relay.sent_bytes()
            figures = [self._write(column, work, contender, number, place, bucket, write_back=setup.write_back)]
            for name in columns[1:]:
                if relay is not None:
                    mib = (relay.sent_bytes() - sent) / MIB
                    figures.append(dataclasses.replace(figures[0], column=name, value=mib))
                elif name in wanted:
                    figures.append(self._read_back(BY_NAME[name], work, contender, number, place))
            if verify:
                self._verify(work, contender, place, bucket)
        return [figure for figure in figures if figure.column in wanted]

    def _work(self, column: Column, number: int) -> Work:
        if column.job is Job.WRITE:
            return Work("whole", [{"name": BIG_NAME, "first": number, "size": self._settings.big_bytes}])
        if column.job is Job.PATCH:
            size = self._settings.middle_bytes
            middle = size // 2 - content.PIECE_BYTES // 2  # on both sides of what is the boundary of any block
            patch = [middle, content.PATCHES + number]
            return Work("patch", [{"name": MIDDLE_NAME, "first": 0, "size": size, "patch": patch}], there=True)
        files = range(self._settings.written_files)
        names = [f"writer{one % column.readers}/file{one:05d}" for one in files]
        return Work("small", [{"name": names[one], "first": one + number, "size": WRITTEN_SMALL_BYTES} for one in files])

    def _make_ready(self, place: Place, work: Work, contender: Contender) -> None:
        """Make what writers find there, outside the clock."""
        if work.directories and not place.one_process:
            self._do(place, [{"job": "directories", "names": work.directories}])
        if work.there and not contender.plain_objects:
            self._do(place, [{"job": "whole", "files": list(work.files)}])

    def _write(
        self,
        column: Column,
        work: Work,
        contender: Contender,
        number: int,
        place: Place,
        bucket: WrittenBucket,
        *,
        write_back: bool,
    ) -> Figure:
        count = 1 if place.one_process else column.readers
        orders = [{"job": work.job, "files": list(work.files[one::count])} for one in range(count)]
        before = bucket.versions() if contender.plain_objects else {}
        kernel_caches.drop_caches(kernel_caches.PAGES)
        accounts = self._accounts(place)
        with self._writers(place, orders) as writers:
            reading = writers.run_pass(accounts.begin)
            if contender.writes_back and not write_back:
                ended = bucket.wait_stored(work.files, before, self._settings.reader_seconds)
                seconds = ended - reading.ended + reading.seconds
                reading = Reading(reading.amount, seconds, reading.cpu_seconds, ended)
            accounts.end(reading)
        if contender.plain_objects and write_back:
            bucket.wait_stored(work.files, before, self._settings.reader_seconds)
        if contender.plain_objects and (missing := bucket.missing(work.files, before)):
            raise ContenderError(f"{len(missing)} files were closed and are not in the store, {missing[0]} is one")
        return accounts.figure(contender.name, column, number)

    def _read_back(self, column: Column, work: Work, contender: Contender, number: int, place: Place) -> Figure:
        """Measure as big-cached is."""
        accounts = self._accounts(place)
        order = {"do": "stream", "path": f"{place.root}/{work.files[0]['name']}", "buffer_bytes": READ_BYTES}

        def begin() -> None:
            kernel_caches.drop_caches(kernel_caches.PAGES)
            accounts.begin()

        with self._readers(place, [order]) as readers:
            while accounts.seconds < self._settings.least_seconds and accounts.passes < MOST_READS:
                accounts.end(readers.run_pass(begin))
        return accounts.figure(contender.name, column, number)

    def _verify(self, work: Work, contender: Contender, place: Place, bucket: WrittenBucket) -> None:
        if contender.plain_objects:
            bucket.check(work.files)
        if not place.one_process:
            kernel_caches.drop_caches(kernel_caches.PAGES)
            self._do(place, [{"job": "check", "files": list(work.files)}])

    def _accounts(self, place: Place) -> Accounts:
        assert self._server.process is not None
        return Accounts(place.pids, self._server.process.pid)

    def _do(self, place: Place, orders: Sequence[Mapping[str, Any]]) -> None:
        with self._writers(place, orders) as writers:
            writers.run_pass()

    def _writers(self, place: Place, orders: Sequence[Mapping[str, Any]]) -> contextlib.AbstractContextManager[Readers]:
        common = {"do": "foreign", "program": str(JOBS), "thorough": False, "root": place.root}
        full = [{**common, **order, **place.extra(order["job"])} for order in orders]
        return started_readers(place.program, full, place.environment, self._settings.reader_seconds, place.abort)

    def _readers(self, place: Place, orders: Sequence[Mapping[str, Any]]) -> contextlib.AbstractContextManager[Readers]:
        return started_readers(READER, orders, os.environ, self._settings.reader_seconds, place.abort)
