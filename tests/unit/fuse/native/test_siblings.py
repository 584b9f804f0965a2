"""A process sees whether another one answers, and not itself."""

from __future__ import annotations

import mmap

from fusecache.contract.shared_memory import ANSWERING, U64, Layout
from fusecache.fuse.native.siblings import Siblings


def test_another_one_is_seen() -> None:
    layout = Layout(serve_count=3, table_entries=4)
    with mmap.mmap(-1, layout.total_bytes) as memory, memoryview(memory) as view:
        siblings = Siblings(view, layout, 1)
        word = 8 * ANSWERING
        assert not siblings.is_one_answering()
        U64.pack_into(memory, layout.serve_counters(1) + word, 1)
        assert not siblings.is_one_answering()
        U64.pack_into(memory, layout.serve_counters(2) + word, 1)
        assert siblings.is_one_answering()
        siblings.close()
