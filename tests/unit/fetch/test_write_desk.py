"""What a mount that may be written knows of its stores before the first change, whichever came when."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fusecache.contract.errors import CacheError
from fusecache.source.registry import open_source
from tests.support.fake_source import FakeSource
from tests.support.fetch_harness import FetchHarness, spec_of
from tests.support.log_check import LogCheck
from tests.support.seaweed import free_ports


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[FetchHarness]:
    made = FetchHarness(spec_of(tmp_path, 1 << 20, read_write=True))
    try:
        yield made
    finally:
        made.close()


def directory(path: Path) -> FakeSource:
    path.mkdir()
    return cast("FakeSource", open_source(f"file://{path}", {}, {}))  # all that the harness asks for is a URL


def begin(harness: FetchHarness, *, fresh: bool, **sources: FakeSource) -> dict[str, int | None]:
    """Begin a life; return what is known of each store's writer."""
    harness.with_sources(sources)
    harness.start(fresh_connection=fresh)
    desk: Any = harness.cache.desk
    harness.call(functools.partial(desk.start, fresh_connection=fresh))
    found = desk._context.writes.found
    return {opened.spec.subdir: harness.call_sync(found, opened.id) for opened in harness.cache.sources.all}


def test_a_source_that_comes_while_programs_use_the_others_is_tried_too(harness: FetchHarness, tmp_path: Path) -> None:
    a, b = directory(tmp_path / "a"), directory(tmp_path / "b")
    assert begin(harness, fresh=True, a=a) == {"a": 0}
    harness.stop()
    assert begin(harness, fresh=False, a=a, b=b) == {"a": 0, "b": 0}


def test_a_source_that_comes_and_does_not_answer_keeps_nobody_from_the_others(
    harness: FetchHarness, tmp_path: Path, expect_log: LogCheck
) -> None:
    (port,) = free_ports(1)
    keys = {"access_key": "a", "secret_key": "b", "endpoint_url": f"http://127.0.0.1:{port}", "connect_timeout": "1"}
    a, gone = directory(tmp_path / "a"), cast("FakeSource", open_source("s3://gone", keys, {}))
    begin(harness, fresh=True, a=a)
    harness.stop()
    expect_log(r"gone: it is not known whether it can be written")
    assert begin(harness, fresh=False, a=a, gone=gone) == {"a": 0, "gone": None}
    harness.stop()
    with pytest.raises(CacheError):
        begin(harness, fresh=True, a=a, gone=gone)
