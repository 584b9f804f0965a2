"""How far a load is, on each worker and in all, and what is said of it at the end.

State: the last figures of each worker. Every worker holds all that is loaded: in all, as much is done as on the one that is
behind the others, so that figures do not depend on how many workers there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fusecache.base.units import format_size
from fusecache.contract.exit_status import ExitStatus

MAX_MESSAGE_BYTES = 4096  # of a termination message in Kubernetes
_MAX_WORDS_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Figures:
    """`workers`: that hold all of it. `full`: there was no room for the rest."""

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
        self._done: set[str] = set()

    def note(self, worker: str, answer: Mapping[str, Any]) -> None:
        """`answer`: progress, or the last line of a warm."""
        if "files" in answer:
            self._of_worker[worker] = answer
            if answer.get("done"):
                self._done.add(worker)

    def forget(self, worker: str) -> None:
        """It went away, and comes back under another name if it does."""
        if worker not in self._done:
            self._of_worker.pop(worker, None)

    @property
    def figures(self) -> Figures:
        every = list(self._of_worker.values())
        if not every:
            return Figures()
        return Figures(
            files=min(int(one["files"]) for one in every),
            files_total=max(int(one["files_total"]) for one in every),
            bytes=min(int(one["bytes"]) for one in every),
            bytes_total=max(int(one["bytes_total"]) for one in every),
            listing=any(bool(one.get("listing")) for one in every),
            workers=len(self._done),
            failures=max(int(one.get("failures", 0)) for one in every),
            full=any(bool(one.get("full")) for one in every),
        )

    def first_failure(self) -> str:
        failed = [pair for one in self._of_worker.values() for pair in one.get("failed", ())]
        return f"{failed[0][0]}: {failed[0][1]}" if failed else ""


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
