"""Modes, times and extended attributes of files stay as programs set them, whenever they do."""

from __future__ import annotations

import pytest

from tests.support import attribute_programs
from tests.support.written_place import WrittenPlace, sha256

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def test_set_between_upload_and_close(place: WrittenPlace) -> None:
    """Once the version that fsync had uploaded took the name at close, with the attributes that the file had at fsync."""
    place.call(attribute_programs.set_between_upload_and_close, 5)
    assert place.assert_stored() == {f"open-{number}": sha256(b"bytes") for number in range(5)}


def test_set_right_after_close(place: WrittenPlace) -> None:
    """Here, too: the kernel does not wait for the end of a file that is closed."""
    place.call(attribute_programs.set_right_after_close, 30)
    assert place.assert_stored() == {f"closed-{number}": sha256(b"bytes") for number in range(30)}


def test_times_of_directories(place: WrittenPlace) -> None:
    """make, git and mail readers look at them for what is new."""
    place.call(attribute_programs.change_directories)
    assert place.assert_stored() == {"one": "directory", "two": "directory"}
