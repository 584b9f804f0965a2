"""Whether other serve processes of the mount answer a request just now, by a word that each keeps in its counter page.

A process that died may have left its word set: its successor clears it, and meanwhile nobody loses more than a little patience.
"""

from __future__ import annotations

from fusecache.contract.shared_memory import ANSWERING, PAGE, Layout


class Siblings:
    def __init__(self, memory: memoryview, layout: Layout, serve_index: int) -> None:
        self._pages = [
            memory[layout.serve_counters(other) : layout.serve_counters(other) + PAGE].cast("Q")
            for other in range(layout.serve_count)
            if other != serve_index
        ]

    def is_one_answering(self) -> bool:
        return any(page[ANSWERING] for page in self._pages)

    def close(self) -> None:
        """Let go of the memory map, so that it can be closed."""
        for page in self._pages:
            page.release()
