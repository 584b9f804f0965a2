"""What a loader is told, and what it says at its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusecache.contract.errors import CacheError
from fusecache.contract.exit_status import ExitStatus
from fusecache.contract.warm_request import WarmRequest
from fusecache.pod.load_plan import LoadPlan
from fusecache.pod.load_progress import MAX_MESSAGE_BYTES, Figures, LoadProgress, Outcome, outcome_of

PLAN: dict[str, Any] = {"version": 1, "service": "s.team.svc", "port": 9820, "targets": [{"path": "a/b", "is_pattern": False}]}


def answer(files: int, size: int, **more: Any) -> dict[str, Any]:
    return {"files": files, "files_total": 10, "bytes": size, "bytes_total": 1000, "listing": False, **more}


def outcome(*answers: dict[str, Any], metadata_only: bool = False, dry_run: bool = False) -> Outcome:
    progress = LoadProgress()
    for number, one in enumerate(answers):
        progress.note(str(number), {"done": True, **one})
    return outcome_of(progress, metadata_only=metadata_only, dry_run=dry_run)


def test_a_plan() -> None:
    plan = LoadPlan.parse(json.dumps({**PLAN, "refresh": True, "parallel": 3, "list_root": "a", "file_list": "a/list"}))
    assert (plan.service, plan.port, plan.listen_port, plan.refresh) == ("s.team.svc", 9820, 9820, True)
    assert plan.request == WarmRequest(("a/b",), file_list="a/list", list_root="a", until_full=True, parallel=3)
    patterns = LoadPlan.parse(json.dumps({**PLAN, "targets": [{"path": "*/x", "is_pattern": True}]}))
    assert patterns.request.patterns == ("*/x",)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", json.dumps({**PLAN, "version": 2}), json.dumps({**PLAN, "odd": 1}), json.dumps({**PLAN, "targets": [1]}),
     json.dumps({**PLAN, "targets": [{"path": "a/../.."}]}), json.dumps({**PLAN, "parallel": -1})],
)  # fmt: skip
def test_plans_that_are_not_understood(text: str) -> None:
    with pytest.raises(CacheError, match="one version"):
        LoadPlan.parse(text)


def test_the_worker_that_is_behind_counts() -> None:
    progress = LoadProgress()
    assert progress.figures == Figures()
    progress.note("a", answer(4, 400))
    progress.note("b", answer(1, 100, listing=True))
    figures = progress.figures
    assert (figures.files, figures.bytes, figures.bytes_total, figures.listing, figures.workers) == (1, 100, 1000, True, 0)
    progress.note("a", answer(10, 1000, done=True))
    progress.forget("a")
    progress.forget("b")
    assert (progress.figures.files, progress.figures.workers) == (10, 1), "what is done stays done"


def part(files: int, of_files: int, size: int, of_size: int, **more: Any) -> dict[str, Any]:
    return {"files": files, "files_total": of_files, "bytes": size, "bytes_total": of_size, "listing": False, **more}


def test_parts_of_workers_that_share_add_up() -> None:
    progress, nodes = LoadProgress(), ("a", "b")
    progress.note("1", part(3, 6, 300, 700), nodes)
    progress.note("2", part(1, 4, 50, 300, done=True), nodes)
    figures = progress.figures
    assert (figures.files, figures.files_total, figures.bytes, figures.bytes_total) == (4, 10, 350, 1000)
    assert figures.workers == 1
    progress.forget("1")
    assert progress.figures == figures, "its cache is still there, and so is the size of the data"
    progress.keep(["2", "3"])
    progress.note("3", part(6, 6, 700, 700, done=True), nodes)
    figures = progress.figures
    assert (figures.files, figures.files_total, figures.bytes, figures.workers) == (7, 10, 750, 2)


def test_a_node_that_comes_counts_when_all_know_it() -> None:
    progress = LoadProgress()
    for worker in ("1", "2"):
        progress.note(worker, part(5, 5, 500, 500, done=True), ("a", "b"))
    progress.note("3", part(0, 1, 0, 100), ("a", "b", "c"))
    assert progress.figures.bytes_total == 1000, "else its part counted twice"
    for worker, size in (("1", 400), ("2", 350), ("3", 250)):
        progress.note(worker, part(3, 3, size, size, done=True), ("a", "b", "c"))
    assert (progress.figures.bytes, progress.figures.bytes_total, progress.figures.workers) == (1000, 1000, 3)


def test_a_node_that_goes_does_not_count_when_the_others_have_its_part() -> None:
    progress = LoadProgress()
    for worker in ("1", "2", "3"):
        progress.note(worker, part(1, 3, 100, 300), ("a", "b", "c"))
    progress.note("3", part(2, 3, 100, 300, done=True, failures=1, failed=[["x", "?"]], full=True), ("a", "b", "c"))
    progress.forget("3")
    assert (progress.figures.bytes, progress.figures.bytes_total) == (300, 900)
    progress.note("1", part(4, 4, 450, 450, done=True), ("a", "b"))
    progress.note("2", part(5, 5, 450, 450, done=True), ("a", "b"))
    assert (progress.figures.files, progress.figures.bytes, progress.figures.bytes_total) == (9, 900, 900)
    assert (progress.figures.workers, progress.figures.failures, progress.figures.full) == (2, 0, False)
    assert progress.first_failure() == ""


def test_a_file_whose_parts_fail_on_two_workers_is_one() -> None:
    """It counts on the first one, and is complete on neither."""
    progress, failed = LoadProgress(), [["large", "the store refuses"]]
    progress.note("1", part(4, 5, 400, 800, done=True, failures=1, failed=failed), ("a", "b"))
    progress.note("2", part(5, 5, 500, 700, done=True, failures=1, failed=failed), ("a", "b"))
    assert (progress.figures.files, progress.figures.files_total, progress.figures.failures) == (9, 10, 1)
    progress.note("1", part(5, 5, 500, 500, done=True), ("a", "b"))
    assert (progress.figures.files, progress.figures.failures) == (9, 1), "begun here, and failed there"
    assert outcome_of(progress, metadata_only=False, dry_run=False).words == (
        "1 of 10 files could not be loaded, such as large: the store refuses"
    )


def test_what_is_said_at_the_end() -> None:
    assert outcome(answer(10, 1000)).words == "10 files with 1000.00B are cached"
    failed = outcome(answer(9, 900, failures=1, failed=[["a/b", "the store refuses"]]))
    assert (failed.status, failed.words) == (
        ExitStatus.FAILED,
        "1 of 10 files could not be loaded, such as a/b: the store refuses",
    )
    full = outcome(answer(5, 512, full=True))
    assert (full.status, full.figures.full) == (ExitStatus.OK, True)
    assert full.words.startswith("the cache is full: 512.00B of 1000.00B are cached")
    assert outcome(answer(1, 10), dry_run=True).words == "10 files with 1000.00B would be loaded; 10.00B of it are cached already"
    assert outcome(answer(7, 0), metadata_only=True).words == "names and versions of 7 files are known"


def test_a_message_fits_and_can_be_read_by_programs() -> None:
    text = Outcome(ExitStatus.FAILED, "é\n" * 5000, Figures(files=3)).message()
    assert len(text.encode()) <= MAX_MESSAGE_BYTES
    words, figures = text.splitlines()
    assert words.startswith("é é")
    assert json.loads(figures)["files"] == 3
