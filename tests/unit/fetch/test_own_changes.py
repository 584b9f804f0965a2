"""What we changed ourselves is newer than an older question."""

from __future__ import annotations

from fusecache.fetch import own_changes
from fusecache.fetch.own_changes import OwnChanges
from fusecache.index.inodes import InodeNo

PARENT = InodeNo(5)


def test_a_change_is_newer_than_a_question_before_it() -> None:
    now = 100.0
    changes = OwnChanges(lambda: now)
    asked_at = changes.now()
    now = 101.0
    changes.note(PARENT, b"name")
    assert changes.is_newer(PARENT, b"name", asked_at)
    assert not changes.is_newer(PARENT, b"other", asked_at)
    now = 102.0
    assert not changes.is_newer(PARENT, b"name", changes.now())
    changes.forget(PARENT, b"name")
    assert not changes.is_newer(PARENT, b"name", asked_at)


def test_what_is_old_is_forgotten() -> None:
    now = 0.0
    changes = OwnChanges(lambda: now)
    changes.note(PARENT, b"old")
    now = own_changes.REMEMBERED_SECONDS + 1
    changes.note(PARENT, b"new")
    assert not changes.is_newer(PARENT, b"old", 0.0)
    assert changes.is_newer(PARENT, b"new", 0.0)
