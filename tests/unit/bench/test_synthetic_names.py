"""The store that makes its names up, and what is measured with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.source.s3_listing import Listing, parse_listing
from tests.bench import synthetic_names, synthetic_store


def page(prefix: str, token: str = "", most: int = 1000) -> Listing:
    return parse_listing(iter([synthetic_store.listing(3, 2500, prefix, token, most).encode()]))


def test_the_pages_of_the_store_hold_every_name_once() -> None:
    assert page("").prefixes == [b"p00000/", b"p00001/", b"p00002/"]
    keys, token = [], ""
    while True:
        found = page("p00002/", token)
        keys += [one.key for one in found.objects]
        if found.next_token is None:
            break
        token = found.next_token
    assert keys == [b"p00002/o%07d" % number for number in range(2500)]
    assert page("p00003/").objects == page("other/").objects == page("p00000/x").objects == []


@pytest.mark.fuse
@pytest.mark.slow
def test_all_names_are_listed_and_counted(tmp_path: Path) -> None:
    known = synthetic_names.measure(tmp_path, names=3000)
    assert known is not None
    assert known.names == 3000
    assert 10 < known.anonymous_mib < 500
    head, row = synthetic_names.lines(known)
    assert len(head) == len(row)


def test_without_figures_there_is_no_table() -> None:
    assert synthetic_names.lines(None) == []
