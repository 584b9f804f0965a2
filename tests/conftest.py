"""Guards around every test, markers that skip with a reason, and the fixtures that all tests share.

A test fails when it logs WARNING or worse without declaring it (`expect_log`), or leaves threads, processes, FUSE mounts or
descriptors behind (`tests/support/leftovers.py` says what is tolerated). Fixtures of wider scope start before the guard
looks, so a server for a module is no leftover; one that a test starts by `getfixturevalue` would be.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.leftovers import RUN_MARK, Leftovers, Snapshot
from tests.support.log_check import LogCheck, RecordingHandler
from tests.support.programs import missing_fuse, missing_program

GRACE_SECONDS = 3.0  # threads and processes that are about to end; a guess for two busy cores
pytest_plugins = ["tests.support.promise_plugin"]
MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-length", action="store_true", help="stress scenarios at the length docs/promises.md reports")
    parser.addoption("--cluster", action="store_true", help="run the tests that need a Kubernetes API server")


def pytest_configure(config: pytest.Config) -> None:
    os.environ[RUN_MARK] = uuid.uuid4().hex
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no client may look for an instance's credentials
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell in whose background we are: readers would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = None
    if item.get_closest_marker("root") and os.geteuid() != 0:
        reason = "needs root"
    if item.get_closest_marker("cluster") and not item.config.getoption("--cluster"):
        reason = "needs --cluster"
    if item.get_closest_marker("fuse"):
        reason = reason or missing_fuse()
    for marker in item.iter_markers("requires"):
        reason = reason or missing_program(*marker.args)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of this run on a real disk, removed at the end. Everything a test makes lies here or under tmp_path."""
    # Not pytest's own directory first: that is private, and daemons of another user have to get here.
    candidates = [Path("/var/tmp"), tmp_path_factory.getbasetemp(), Path.cwd()]
    parent = next((path for path in candidates if os.access(path, os.W_OK) and not _is_in_memory(path)), candidates[0])
    directory = Path(tempfile.mkdtemp(prefix="fusecache-test-", dir=parent))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def full_length(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full-length"))


@pytest.fixture
def allowed(full_length: bool) -> Callable[[float], float]:
    """What a wait that is promised to take so many seconds may take: that at full length, when nothing else runs, and in an
    ordinary run, beside other tests on a machine that may be busy with something else, five times of it."""
    return lambda seconds: seconds if full_length else 5 * seconds


@pytest.fixture
def disk_path(run_directory: Path) -> Iterator[Path]:
    """A directory of the test's own on a real disk, where tmp_path may be tmpfs."""
    directory = Path(tempfile.mkdtemp(dir=run_directory))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def leftovers_guard(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the test that leaves something behind, and clean up after it."""
    roots = (str(run_directory), str(tmp_path_factory.getbasetemp()))
    before = Snapshot.take(*roots)
    yield
    leftovers = _settle(before, roots)
    if leftovers:
        leftovers.end()
        pytest.fail(f"left behind: {leftovers}", pytrace=False)


@pytest.fixture(autouse=True)
def expect_log(leftovers_guard: None) -> Iterator[LogCheck]:
    """Declare log messages: `expect_log(r"tier .* is full")`."""
    check = LogCheck()
    handler = RecordingHandler(check)
    logging.getLogger().addHandler(handler)
    try:
        yield check
    finally:
        logging.getLogger().removeHandler(handler)
    complaints = check.complaints()
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


def _settle(before: Snapshot, roots: tuple[str, ...]) -> Leftovers:
    """Compare until nothing is left or the grace is over."""
    deadline = time.monotonic() + GRACE_SECONDS
    leftovers = Snapshot.take(*roots).new_since(before)
    if leftovers:
        gc.collect()  # only then: a collection takes longer than most tests
    while leftovers and time.monotonic() < deadline:
        time.sleep(0.02)
        leftovers = Snapshot.take(*roots).new_since(before)
    return leftovers


def _is_in_memory(path: Path) -> bool:
    best, kind = "", ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mountpoint, fs_type = line.split(" ")[:3]
        if path.resolve().is_relative_to(mountpoint) and len(mountpoint) >= len(best):
            best, kind = mountpoint, fs_type
    return kind in MEMORY_FILE_SYSTEMS
