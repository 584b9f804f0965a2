"""A phase: some parts of the dataset, a server that holds them, the contenders set up for them, and all rounds of them.

Owns server and data while it runs; what was found is added to `Found`. A phase leaves nothing behind: the next one needs
the memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from fusecache.contract.mount_spec import Engine
from tests.bench import rounds, store
from tests.bench.contenders.bare_client import BareClient
from tests.bench.contenders.contender import Contender
from tests.bench.contenders.fusecache_mount import FusecacheMount
from tests.bench.contenders.juicefs import JuiceFs
from tests.bench.contenders.plain_files import PlainFiles
from tests.bench.contenders.rclone import Rclone
from tests.bench.dataset import LINK, Dataset
from tests.bench.figures import Figure
from tests.bench.link.link import Link
from tests.bench.link.tun import missing_tun
from tests.bench.report import Participant
from tests.bench.sessions import SESSIONS, SessionRunner
from tests.bench.settings import Settings
from tests.support.seaweed import Seaweed

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Found:
    """What all phases so far came to."""

    figures: list[Figure] = dataclasses.field(default_factory=list)
    participants: list[Participant] = dataclasses.field(default_factory=list)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)
    disturbed: list[str] = dataclasses.field(default_factory=list)


def run_phase(
    settings: Settings, parts: Sequence[str], parent: Path, disk: Path | None, more: Sequence[str], found: Found
) -> None:
    """Run what is wanted of these parts; nothing if that is nothing.

    Args:
        more: -o options for fusecache's own mounts.
    """
    columns = {name for session in SESSIONS if session.part in parts for name in session.columns} & set(settings.columns)
    needed = [part for part in parts if any(s.part == part and columns & set(s.columns) for s in SESSIONS)]
    if not needed:
        return
    with contextlib.ExitStack() as stack:
        directory = parent / "-".join(needed)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        link = None
        if LINK in needed:
            if missing := missing_tun():
                found.absent["a store behind a link"] = missing
                return
            link = stack.enter_context(Link())
        weed = directory / "weed"
        server = stack.enter_context(Seaweed(weed) if link is None else Seaweed(weed, host=link.host, launcher=link.launcher))
        log.info("making the files of %s", ", ".join(needed))
        dataset = Dataset.make(directory / "data", settings, needed)
        store.fill(server, dataset)
        if link is not None:
            link.slow_down()
        contenders = make_contenders(settings, server, dataset, directory, disk, more)
        taking_part = [contender for contender in contenders if columns & set(contender.columns)]
        present = rounds.prepare(taking_part, found.absent, found.failures)
        runner = SessionRunner(settings, dataset, server)
        try:
            rounds.run_rounds(present, runner, settings.rounds, found.failures)
        finally:
            found.figures += runner.figures
            found.disturbed += runner.disturbed
        _add_participants(found, present, settings)


def make_contenders(
    settings: Settings, server: Seaweed, dataset: Dataset, directory: Path, disk: Path | None, more: Sequence[str]
) -> list[Contender]:
    quota = settings.quota_bytes
    all_of_them: list[Contender] = [
        FusecacheMount(server, dataset, directory / "fusecache", Engine.NATIVE, quota, more, disk),
        FusecacheMount(server, dataset, directory / "fusecache-pyfuse3", Engine.PYFUSE3, quota, more),
        JuiceFs(server, dataset, directory / "juicefs", quota),
        Rclone(server, dataset, directory / "rclone"),
        BareClient(server, dataset, directory / "bare"),
        PlainFiles(dataset, disk),
    ]
    return [contender for contender in all_of_them if contender.name in settings.contenders]


def _add_participants(found: Found, present: Sequence[Contender], settings: Settings) -> None:
    """Note who took part, once, in the order of the table."""
    known = {one.name: one for one in found.participants}
    for one in present:
        options = one.options()
        if one.name in known and options not in known[one.name].options:
            options = f"{known[one.name].options}; {options}"  # what suited it in this phase too
        known[one.name] = Participant(one.name, one.title, one.version(), options)
    found.participants = [known[name] for name in settings.contenders if name in known]
