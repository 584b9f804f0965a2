"""The guards of tests/conftest.py notice what they are for: each row is a test file that must fail under them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

CLEAN = """
import logging
def test_clean(expect_log, tmp_path):
    expect_log("disk .* full")
    logging.getLogger("fusecache.x").warning("disk %s full", 1)
    (tmp_path / "f").write_text("x")
"""
LOGS = """
import logging
def test_logs():
    logging.getLogger("fusecache.x").warning("something is odd")
"""
LOG_DOES_NOT_COME = """
def test_expects(expect_log):
    expect_log("never said")
"""
LOG_IS_WORSE = """
import logging
def test_worse(expect_log):
    expect_log("odd")
    logging.getLogger("x").error("odd")
"""
THREAD = """
import threading, time
def test_thread():
    threading.Thread(target=time.sleep, args=(2,), name="left-thread").start()
"""
CHILD = """
import subprocess, sys
KEPT = []
def test_child():
    KEPT.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
"""
ORPHAN = """
import subprocess, sys
CODE = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)"
def test_orphan():
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], check=True)
"""
DESCRIPTOR = """
import os
def test_descriptor(tmp_path):
    os.open(tmp_path, os.O_RDONLY)
"""
MEMFD = """
import os
def test_memfd():
    os.memfd_create("left-memfd")
"""
WARNING = """
import warnings
def test_warning():
    warnings.warn("odd", UserWarning)
"""
MOUNT = """
import ctypes, os
def test_mount(disk_path):
    fuse = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    assert libc.mount(b"fusecache", os.fsencode(disk_path), b"fuse.fusecache", 0, options) == 0, ctypes.get_errno()
    os.close(fuse)
"""


def run_pytest(directory: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under our conftest.py and settings, in a copy of nothing else."""
    (directory / "conftest.py").write_text(
        "import tests.conftest\nfrom tests.conftest import *\ntests.conftest.GRACE_SECONDS = 0.2\n"
    )
    (directory / "test_it.py").write_text(code)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(directory),
        "-p",
        "no:cacheprovider",
    ]
    command += ["--basetemp", str(directory / "tmp"), str(directory / "test_it.py")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_clean_test_passes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, CLEAN)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        pytest.param(LOGS, "unexpected log message: WARNING fusecache.x: something is odd", id="log"),
        pytest.param(LOG_DOES_NOT_COME, "expected log message did not come: never said", id="missing log"),
        pytest.param(LOG_IS_WORSE, "unexpected log message: ERROR x: odd", id="worse log"),
        pytest.param(THREAD, "left behind: thread left-thread", id="thread"),
        pytest.param(CHILD, r"left behind: process \d+ \(python", id="child"),
        pytest.param(ORPHAN, r"left behind: process \d+ \(python", id="orphan"),
        pytest.param(DESCRIPTOR, "left behind: open file /", id="descriptor"),
        pytest.param(MEMFD, "left behind: open file /memfd:left-memfd", id="memfd"),
        pytest.param(WARNING, "UserWarning: odd", id="warning"),
        pytest.param(MOUNT, "left behind: fuse.fusecache mount on /", id="mount", marks=[pytest.mark.fuse, pytest.mark.root]),
    ],
)
def test_what_is_left_behind_fails(tmp_path: Path, code: str, complaint: str) -> None:
    done = run_pytest(tmp_path, code)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(complaint, done.stdout), done.stdout
