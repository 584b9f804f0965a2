"""Files that are cut off and overwritten, by their names and as they are opened."""

from __future__ import annotations

import pytest

from tests.support import overwriting_programs
from tests.support.child_call import start_in_child
from tests.support.written_place import WrittenPlace, sha256

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def test_truncate_right_after_close(place: WrittenPlace, full_length: bool) -> None:
    """Once a truncation could go to a stage that was being removed: it was answered, and lost."""
    rounds = 500 if full_length else 40
    place.call(overwriting_programs.truncate_right_after_close, rounds)
    assert place.assert_stored() == {f"cut-{number}": sha256(b"0123more\0\0") for number in range(rounds)}


def test_overwrite_right_after_close(place: WrittenPlace, full_length: bool) -> None:
    rounds = 500 if full_length else 60
    place.call(overwriting_programs.overwrite_right_after_close, rounds)
    assert place.assert_stored() == {"overwritten": sha256(b"%d" % (rounds - 1))}


def test_the_store_keeps_the_old_version_until_close(place: WrittenPlace) -> None:
    """open with O_TRUNC is no upload of an empty file."""
    place.shell("echo old > file")
    writer = start_in_child(overwriting_programs.overwrite_and_wait, "file", "new bytes", directory=place.directory)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        assert place.read("file") == b"old\n"
        assert place.run("cat", "file") == "new b"
        _, err = writer.communicate(b"\n", timeout=60)
        assert writer.returncode == 0, err
    finally:
        writer.kill()
        writer.communicate()
    assert place.read("file") == b"new bytes"
    place.assert_stored()
