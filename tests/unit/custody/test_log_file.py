"""The log of a mount: bounded, with several processes writing to it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from fusecache.contract.run_files import LOG, LOG_PREDECESSOR
from fusecache.custody.log_file import LOG_NAME, last_line_of_children, rotate_if_large
from tests.support.log_check import LogCheck


def open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def test_a_large_log_begins_anew_and_its_end_is_kept(tmp_path: Path) -> None:
    """It grew for as long as the mount lived, in memory where the run directory is on tmpfs."""
    path = tmp_path / LOG
    fd = open_log(path)
    try:
        os.write(fd, b"a" * 600)
        assert not rotate_if_large(str(path), fd, 1000)
        os.write(fd, b"b" * 600)
        assert rotate_if_large(str(path), fd, 1000)
        os.write(fd, b"c")
    finally:
        os.close(fd)
    assert path.read_bytes() == b"c"
    assert (tmp_path / LOG_PREDECESSOR).read_bytes() == b"a" * 400 + b"b" * 600


def test_the_last_words_of_a_child_are_found_among_ours(tmp_path: Path) -> None:
    path = tmp_path / LOG
    path.write_text("x\n" * 20_000 + f"ImportError: no obstore\n\n2026-01-01 INFO{LOG_NAME}fusecache.custody: stopping\n")
    assert last_line_of_children(str(path)) == "ImportError: no obstore"
    path.write_text(f"2026-01-01 INFO{LOG_NAME}fusecache.custody: stopping\n")
    assert last_line_of_children(str(path)) == last_line_of_children(str(tmp_path / "missing")) == last_line_of_children("") == ""


def test_several_writers_go_on_writing_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / LOG
    lines = 20_000

    def write(who: int) -> None:
        fd = open_log(path)
        for number in range(lines):
            os.write(fd, b"%d line %06d\n" % (who, number))
        os.close(fd)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(3)]
    own = open_log(path)
    for thread in threads:
        thread.start()
    times = largest = 0
    while any(thread.is_alive() for thread in threads):
        largest = max(largest, os.fstat(own).st_size)
        times += rotate_if_large(str(path), own, 50_000)
    os.close(own)
    assert times > 1
    predecessor = (tmp_path / LOG_PREDECESSOR).read_bytes()
    assert len(predecessor) <= 100_000
    assert all(len(line) == len(b"0 line 000000") for line in predecessor.split(b"\n")[1:-1])
    assert all(len(line) == len(b"0 line 000000") for line in path.read_bytes().split(b"\n")[:-1])


def test_a_predecessor_that_cannot_be_written_does_not_stop_it(tmp_path: Path, expect_log: LogCheck) -> None:
    expect_log("the old log cannot be kept")
    path = tmp_path / LOG
    (tmp_path / LOG_PREDECESSOR).mkdir()
    fd = open_log(path)
    os.write(fd, b"x" * 2000)
    assert rotate_if_large(str(path), fd, 1000)
    os.close(fd)
    assert path.read_bytes() == b""
