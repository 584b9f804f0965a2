"""How far a load is, on each worker and in all, and what is said of it at the end.

State: the last figures of each worker, and the nodes that it shares the work with. Figures of those that share it add up to those
of the data. Who shares with nobody has all of it: of several, as much is done as on the one that is behind the others. So figures
do not depend on how many workers there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from fusecache.base.units import format_size
from fusecache.contract.exit_status import ExitStatus

MAX_MESSAGE_BYTES = 4096  # of a termination message in Kubernetes
_MAX_WORDS_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Figures:
    """`workers`: that are done. `full`: there was no room for the rest."""

    files: int = 0
    files_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
    listing: bool = True
    workers: int = 0
    failures: int = 0
    full: bool = False


class LoadProgress:
    def __init__(self) -> None:
        self._of_worker: dict[str, Mapping[str, Any]] = {}
        self._owners: dict[str, tuple[str, ...]] = {}

    def note(self, worker: str, answer: Mapping[str, Any], owners: tuple[str, ...] = ()) -> None:
        """`answer`: progress, or the last line of a warm. `owners`: nodes between which the data is shared, none if it is not."""
        if "files" in answer:
            self._of_worker[worker] = answer
            self._owners[worker] = owners

    def forget(self, worker: str) -> None:
        """It went away, and comes back under another name if it does. What it has done of a part that others share counts until
        somebody else has that part."""
        if not self._is_done(worker) and not self._owners.get(worker):
            self._drop(worker)

    def keep(self, workers: Iterable[str]) -> None:
        """Forget all others."""
        for worker in set(self._of_worker).difference(workers):
            self._drop(worker)

    def _drop(self, worker: str) -> None:
        self._of_worker.pop(worker, None)
        self._owners.pop(worker, None)

    def _is_done(self, worker: str) -> bool:
        return bool(self._of_worker.get(worker, {}).get("done"))

    @property
    def figures(self) -> Figures:
        if not self._of_worker:
            return Figures()
        groups = self._groups()
        counted = [worker for group in groups for worker in group]
        every = [self._of_worker[worker] for worker in counted]
        sums = [_Sum.of([self._of_worker[worker] for worker in group]) for group in groups]
        failures = max(len(self._failed(counted)), *(int(one.get("failures", 0)) for one in every))
        files_total = max(one.files_total for one in sums)
        return Figures(
            # A file counts where its beginning is, and may have failed elsewhere.
            files=min(*(one.files for one in sums), max(0, files_total - failures)),
            files_total=files_total,
            bytes=min(one.bytes for one in sums),
            bytes_total=max(one.bytes_total for one in sums),
            listing=any(bool(one.get("listing")) for one in every),
            workers=sum(map(self._is_done, counted)),
            failures=failures,
            full=any(bool(one.get("full")) for one in every),
        )

    def _groups(self) -> list[list[str]]:
        """Return workers that have all of the data together. Where nodes came and went, or do not agree who shares the data,
        there may be no such group: then what all of them have loaded comes nearest."""
        alone = [[worker] for worker, owners in self._owners.items() if not owners]
        sharing = [
            [worker for worker, owners in self._owners.items() if owners == nodes]
            for nodes in set(self._owners.values())
            if nodes
        ]
        whole = [group for group in sharing if len(group) == len(self._owners[group[0]])]
        return alone + whole or [list(self._owners)]

    def _failed(self, workers: Iterable[str]) -> dict[str, str]:
        """Return paths, and why: of a file whose parts failed on several workers once."""
        return {path: why for worker in workers for path, why in self._of_worker[worker].get("failed", ())}

    def first_failure(self) -> str:
        failed = self._failed(worker for group in self._groups() for worker in group)
        return next((f"{path}: {why}" for path, why in failed.items()), "")


@dataclass(frozen=True, slots=True)
class _Sum:
    """Of a group's figures."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int

    @classmethod
    def of(cls, answers: Sequence[Mapping[str, Any]]) -> _Sum:
        return cls(*(sum(int(one[field.name]) for one in answers) for field in fields(cls)))


@dataclass(frozen=True, slots=True)
class Outcome:
    status: ExitStatus
    words: str
    figures: Figures = Figures()

    def message(self) -> str:
        """Return what the pod leaves behind: words for people, and a line of JSON for the operator."""
        words = " ".join(self.words.split()).encode()[:_MAX_WORDS_BYTES].decode(errors="ignore")
        return f"{words}\n{json.dumps(asdict(self.figures))}\n"


def outcome_of(progress: LoadProgress, *, metadata_only: bool, dry_run: bool) -> Outcome:
    """Return what became of a load that every worker has answered."""
    figures = progress.figures
    if figures.failures:
        words = f"{figures.failures} of {figures.files_total} files could not be loaded, such as {progress.first_failure()}"
        return Outcome(ExitStatus.FAILED, words, figures)
    if dry_run:
        words = (
            f"{figures.files_total} files with {format_size(figures.bytes_total)} would be loaded; "
            f"{format_size(figures.bytes)} of it are cached already"
        )
    elif metadata_only:
        words = f"names and versions of {figures.files} files are known"
    elif figures.full:
        words = (
            f"the cache is full: {format_size(figures.bytes)} of {format_size(figures.bytes_total)} are cached; "
            "give a tier a larger quota, or load less"
        )
    else:
        words = f"{figures.files} files with {format_size(figures.bytes)} are cached"
    return Outcome(ExitStatus.OK, words, figures)
