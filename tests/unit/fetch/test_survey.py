"""What a source has is counted without a cache."""

from __future__ import annotations

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.survey import survey
from tests.support.fake_source import FakeSource


@pytest.mark.parametrize("needs_stat", [False, True])
def test_all_directories_are_counted(needs_stat: bool) -> None:
    source = FakeSource(needs_stat=needs_stat)
    for number in range(100):
        source.put(f"{number % 7}/{number % 3}/file-{number}", b"x" * number)
    found = survey(source)
    assert (found.files, found.total_bytes) == (100, sum(range(100)))


def test_an_error_ends_it() -> None:
    source = FakeSource()
    source.put("a/b/c", b"x")
    source.fail(1, ErrorKind.DENIED, "list_page", matches=lambda path: path == b"a/b")
    with pytest.raises(CacheError, match="asked for"):
        survey(source)


def test_what_goes_meanwhile_is_not_counted() -> None:
    source = FakeSource()
    source.put("a/b", b"x")
    source.put("c", b"xyz")
    source.fail(1, ErrorKind.NOT_FOUND, "list_page", matches=lambda path: path == b"a")
    assert survey(source).total_bytes == 3
