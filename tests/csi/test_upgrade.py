"""Another version of driver and daemons takes over busy mounts; one that cannot says so first (figure 4)."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.csi_driver import CsiDriver
from tests.support.mounted import ROOT, wait_until
from tests.support.readers import Readers

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.timed]

OTHER_VERSION = "99.0"


def other_package(directory: Path, changes: dict[str, tuple[str, str]]) -> Path:
    """Return the directory of a copy of the program, with text replaced in some files."""
    for name in ("fusecache", "csi", "proto"):
        shutil.copytree(ROOT / name, directory / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (pattern, text) in changes.items():
        path = directory / name
        changed, count = re.subn(pattern, text, path.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{pattern} is not in {name}"
        path.write_text(changed)
    return directory


def restart(driver: CsiDriver, package: Path) -> None:
    driver.stop()
    driver.package = package
    driver.start()


def version_of(driver: CsiDriver) -> str:
    (record,) = driver.records()
    return record.version if record.state == "ready" and record.is_supervised else ""


@pytest.mark.timeout(200)
def test_another_version_takes_over_and_back(
    disk_path: Path,
    driver: CsiDriver,
    truth: Path,
    target: Path,
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
) -> None:
    new = other_package(disk_path / "new", {"fusecache/__init__.py": (r"^__version__ = .*", f'__version__ = "{OTHER_VERSION}"')})
    first = version_of_package()
    rounds = 5 if full_length else 1
    readers = Readers(target, truth, 8.0 * rounds + 2.0, ["random", "random", "sequential", "walk"], drop_caches=0.02)
    processes = set()
    try:
        for _ in range(rounds):
            for package, version in ((new, OTHER_VERSION), (ROOT, first)):
                time.sleep(1.0)
                restart(driver, package)
                assert wait_until(lambda version=version: version_of(driver) == version, 15.0), driver.log()[-2000:]
                (record,) = driver.records()
                processes |= {record.supervisor, *record.daemons}
        seen = readers.collect()
    finally:
        readers.kill()
    promise(
        "4",
        f"driver and daemons replaced by another version, and back, {rounds} times, under readers of a bind mount",
        f"{2 * rounds} upgrades, {len(processes)} new processes, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, "
        f"{seen.hung} hung, longest {seen.longest_seconds:.2f} s",
        "0 failed, 0 wrong",
    )
    seen.assert_clean()


def version_of_package() -> str:
    from fusecache import __version__

    return __version__


def test_a_daemon_of_another_state_version_leaves_the_mount_alone(
    disk_path: Path, driver: CsiDriver, truth: Path, target: Path
) -> None:
    """It is refused before it takes anything: the old one goes on serving, and the log says what to do."""
    changes = {
        "fusecache/__init__.py": (r"^__version__ = .*", f'__version__ = "{OTHER_VERSION}"'),
        "fusecache/contract/keeping.py": (r"^STATE_VERSION = \d+", "STATE_VERSION = 77"),
    }
    new = other_package(disk_path / "new", changes)
    before = driver.records()[0].supervisor
    readers = Readers(target, truth, 5.0, ["random", "sequential"], drop_caches=0.02)
    try:
        restart(driver, new)
        assert wait_until(lambda: "stays: the daemon's state has version 77" in driver.log(), 10.0)
        time.sleep(1.0)
        seen = readers.collect()
    finally:
        readers.kill()
    seen.assert_clean()
    assert driver.records()[0].supervisor == before
    assert driver.log().count("stays: the daemon's state has version 77") == 1
