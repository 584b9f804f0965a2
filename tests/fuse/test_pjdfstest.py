"""What POSIX says of names, modes, owners, times and errors, on mounts that are written to: the cases of pjdfstest, ported, and
the suite itself where it is installed. docs/posix.md tells what is missed, and why."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounted import ROOT
from tests.support.pjdfstest import document, misses
from tests.support.pjdfstest.tools import CASES
from tests.support.programs import find_program
from tests.support.seaweed import Seaweed
from tests.support.writable_store import KINDS, WritableStore

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

WORKERS = 4
SECONDS = 300
LONG = ["open::interact_2gb"]


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as server:
        yield server


@contextlib.contextmanager
def bound_read_only(source: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True, timeout=20)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True, timeout=20)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=20)


def answers(root: Path, base: Path, skip: list[str]) -> dict[str, str | None]:
    with bound_read_only(root, base / "read-only") as read_only, tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        job = {
            "root": str(root),
            "read_only": str(read_only),
            "elsewhere": elsewhere,
            "workers": WORKERS,
            "skip": skip,
        }
        asked = subprocess.run(
            ["timeout", "-s", "KILL", str(SECONDS), sys.executable, "-m", "tests.support.pjdfstest", json.dumps(job)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert asked.returncode == 0, asked.stderr
    found: dict[str, str | None] = json.loads(asked.stdout)
    return found


def test_a_local_file_system_passes_all(disk_path: Path) -> None:
    """So a case that is missed says something about the mount."""
    (disk_path / "root").mkdir()
    found = answers(disk_path / "root", disk_path, [])
    assert {name: came for name, came in found.items() if came is not None} == {}
    assert len(found) == len(CASES) > 400


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mount_misses_only_what_the_document_says(disk_path: Path, seaweed: Seaweed, kind: str, full_length: bool) -> None:
    skip = misses.skipped(kind) + ([] if full_length else LONG)
    with WritableStore(kind, disk_path, seaweed) as store, store.mounted(disk_path) as mounted:
        found = answers(mounted.mountpoint, disk_path, skip)
        assert misses.disagreements(found, kind) == [], mounted.log()[-3000:]
    assert len(found) == len(CASES) - len(set(skip))


@pytest.mark.requires("pjdfstest")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
def test_the_suite_itself_misses_nothing_else(disk_path: Path, seaweed: Seaweed, kind: str, full_length: bool) -> None:
    """`cargo install pjdfstest`; the names of its cases are those of the port."""
    if not full_length:
        pytest.skip("asks one case after the other; at full length only")
    (disk_path / "settings").write_text(
        "[features]\nposix_fallocate = {}\nutime_now = {}\nutimensat = {}\n"
        "[settings]\nnaptime = 0.01\nallow_remount = false\n"
        '[dummy_auth]\nentries = [["nobody", "nogroup"], ["daemon", "daemon"]]\n'
    )
    with WritableStore(kind, disk_path, seaweed) as store, store.mounted(disk_path) as mounted:
        program = [find_program("pjdfstest") or "", "-c", f"{disk_path}/settings", "-p", str(mounted.mountpoint), "--"]
        asked = subprocess.run(
            ["timeout", "-s", "KILL", str(SECONDS), *program, *patterns(misses.skipped(kind))], stdout=subprocess.PIPE, text=True
        ).stdout
    found = {line.split()[0]: line.split()[1] for line in asked.splitlines() if line.endswith((" ok", " FAILED"))}
    assert len(found) > 350
    assert misses.disagreements({name: None if came == "ok" else came for name, came in found.items()}, kind) == []


def patterns(skip: list[str]) -> list[str]:
    """Return what to ask the suite for: calls, or the cases of a call of which some are not asked."""
    in_part = {name.partition("::")[0] for name in skip}
    return sorted(
        {
            call if call not in in_part else "::".join(name.split("::")[:2])
            for name in CASES
            for call in [name.partition("::")[0]]
            if name not in skip
        }
    )


def test_the_table_names_cases_that_exist() -> None:
    assert misses.unused(CASES) == []
    assert set(misses.NOT_ASKED) <= set(CASES)


def test_the_document_is_up_to_date() -> None:
    assert (ROOT / "docs" / "posix.md").read_text() == document.render(), (
        "make it anew: python -m tests.support.pjdfstest.document > docs/posix.md"
    )
