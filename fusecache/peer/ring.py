"""Which node owns a group of blocks: rendezvous hashing. Pure.

Every node scores every group, the highest score owns it. When a node goes, its groups alone move, evenly to all others; when it
comes back it has them again. Nodes are known by their names, so that a pod that was started again keeps its share under another
address. Source: Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

# Blocks that one node owns together. As large as what is asked of a store at once (16 MiB of blocks of 1 MiB), and larger than
# the objects that are read as a whole (fetch/range_size.py): an owner's request should be as good as the one that it saves.
GROUP_BLOCKS = 16

_SEED = struct.Struct("<QQ")


class Ring:
    """Some nodes. Invariant: two rings of the same names agree about every group, whatever their order."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.nodes = tuple(sorted(set(nodes)))
        self._keys = [(name, name.encode()) for name in self.nodes]

    def first(self, identity: int, group: int, count: int) -> list[str]:
        """Return the node that owns a group, and those that would own it next; fewer than `count` if there are not so many."""
        seed = xxh3_64_intdigest(_SEED.pack(identity, group))
        scores = sorted(((xxh3_64_intdigest(key, seed), name) for name, key in self._keys), key=lambda one: -one[0])
        return [name for _, name in scores[:count]]

    def owner(self, identity: int, group: int) -> str | None:
        """Return who owns a group of an object; `identity` as in index/inodes.py. None if there is nobody."""
        seed = xxh3_64_intdigest(_SEED.pack(identity, group))
        best, owner = -1, None
        for name, key in self._keys:
            score = xxh3_64_intdigest(key, seed)
            if score > best:
                best, owner = score, name
        return owner


def group_of(block: int) -> int:
    return block // GROUP_BLOCKS
