"""Well-known eviction policies over a trace, for caches of equal objects, to compare our own with. Stateless.

Each takes the objects in the order they are read and the number that fit, and returns for each read whether it was a hit.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

Policy = Callable[[Sequence[int], int], list[bool]]
NEVER = 1 << 60


def lru(trace: Sequence[int], capacity: int) -> list[bool]:
    cached: OrderedDict[int, None] = OrderedDict()
    hits = []
    for one in trace:
        hits.append(one in cached)
        cached[one] = None
        cached.move_to_end(one)
        if len(cached) > capacity:
            cached.popitem(last=False)
    return hits


def sieve(trace: Sequence[int], capacity: int) -> list[bool]:
    """Zhang et al., NSDI '24: the hand clears marks from the oldest to the newest, and takes the first that has none."""
    visited: OrderedDict[int, bool] = OrderedDict()  # oldest first
    kept: deque[int] = deque()  # the queue, oldest first, rotated so that the hand is at its left end
    passed: deque[int] = deque()  # what the hand has passed in this round
    hits = []
    for one in trace:
        hits.append(one in visited)
        if hits[-1]:
            visited[one] = True
            continue
        if len(visited) >= capacity:
            while True:
                if not kept:
                    kept, passed = passed, deque()
                candidate = kept.popleft()
                if not visited[candidate]:
                    del visited[candidate]
                    break
                visited[candidate] = False
                passed.append(candidate)
        visited[one] = False
        kept.append(one)
    return hits


def s3_fifo(trace: Sequence[int], capacity: int) -> list[bool]:
    """Yang et al., SOSP '23: a small queue of a tenth on probation, a main one, and the names of what left the small one."""
    most_small = max(1, capacity // 10)
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghosts: OrderedDict[int, None] = OrderedDict()
    reads: dict[int, int] = {}  # of what is cached, 3 at most

    def make_room() -> None:
        while len(small) >= most_small or not main:
            if not small:
                break
            one = small.popleft()
            if reads[one] > 0:
                reads[one] = 0
                main.append(one)
                continue
            del reads[one]
            ghosts[one] = None
            if len(ghosts) > capacity - most_small:
                ghosts.popitem(last=False)
            return
        while True:
            one = main.popleft()
            if reads[one] == 0:
                del reads[one]
                return
            reads[one] -= 1
            main.append(one)

    hits = []
    for one in trace:
        hits.append(one in reads)
        if hits[-1]:
            reads[one] = min(3, reads[one] + 1)
            continue
        if len(reads) >= capacity:
            make_room()
        (main if one in ghosts else small).append(one)
        ghosts.pop(one, None)
        reads[one] = 0
    return hits


def arc(trace: Sequence[int], capacity: int) -> list[bool]:
    """Megiddo and Modha, FAST '03: recent and frequent objects, with ghosts of both that move the border between them."""
    recent: OrderedDict[int, None] = OrderedDict()
    frequent: OrderedDict[int, None] = OrderedDict()
    recent_ghosts: OrderedDict[int, None] = OrderedDict()
    frequent_ghosts: OrderedDict[int, None] = OrderedDict()
    target = 0.0

    def replace(one: int) -> None:
        if recent and (len(recent) > target or (one in frequent_ghosts and len(recent) == target)):
            recent_ghosts[recent.popitem(last=False)[0]] = None
        else:
            frequent_ghosts[frequent.popitem(last=False)[0]] = None

    hits = []
    for one in trace:
        hits.append(one in recent or one in frequent)
        if hits[-1]:
            recent.pop(one, None)
            frequent[one] = None
            frequent.move_to_end(one)
        elif one in recent_ghosts:
            target = min(capacity, target + max(1.0, len(frequent_ghosts) / len(recent_ghosts)))
            replace(one)
            del recent_ghosts[one]
            frequent[one] = None
        elif one in frequent_ghosts:
            target = max(0.0, target - max(1.0, len(recent_ghosts) / len(frequent_ghosts)))
            replace(one)
            del frequent_ghosts[one]
            frequent[one] = None
        else:
            if len(recent) + len(recent_ghosts) == capacity:
                if len(recent) < capacity:
                    recent_ghosts.popitem(last=False)
                    replace(one)
                else:
                    recent.popitem(last=False)
            else:
                total = len(recent) + len(frequent) + len(recent_ghosts) + len(frequent_ghosts)
                if total >= capacity:
                    if total == 2 * capacity:
                        frequent_ghosts.popitem(last=False)
                    replace(one)
            recent[one] = None
    return hits


def belady(trace: Sequence[int], capacity: int) -> list[bool]:
    """What nobody can do: the object that is read again the latest leaves, the new one included."""
    following = [NEVER] * len(trace)
    last: dict[int, int] = {}
    for position in range(len(trace) - 1, -1, -1):
        following[position] = last.get(trace[position], NEVER)
        last[trace[position]] = position
    cached: dict[int, int] = {}  # object to its next read
    order: list[tuple[int, int]] = []  # (-next read, object), with entries that are no longer true
    hits = []
    for position, one in enumerate(trace):
        hits.append(one in cached)
        cached[one] = following[position]
        heapq.heappush(order, (-following[position], one))
        while len(cached) > capacity:
            known, candidate = heapq.heappop(order)
            if cached.get(candidate) == -known:
                del cached[candidate]
    return hits


POLICIES: dict[str, Policy] = {"LRU": lru, "SIEVE": sieve, "S3-FIFO": s3_fifo, "ARC": arc}
