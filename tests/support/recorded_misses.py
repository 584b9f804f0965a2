"""A miss client that only writes down what it is told: for tests of the filesystem without fetch. One thread."""

from __future__ import annotations

from collections.abc import Callable

from fusecache.contract.messages import Answer, Op, Request


class RecordedMisses:
    """Implements serve.miss_client.LeasingMissClient. `told` has the messages without answers; `lost` is what lost_request
    returns."""

    def __init__(self) -> None:
        self.told: list[Request] = []
        self.lost: Request | None = None

    def told_of(self, op: Op) -> list[tuple[int, int]]:
        return [(request.inode, request.offset) for request in self.told if request.op is op]

    def submit(self, request: Request, on_answer: Callable[[Answer], None]) -> int:
        raise AssertionError("the filesystem raises Miss and submits nothing")

    def done(self, token: int) -> None: ...

    def settled(self, token: int) -> None: ...

    def cancel(self, token: int) -> None: ...

    def tell(self, request: Request) -> None:
        self.told.append(request)

    def on_invalidate(self, callback: Callable[[Answer], None]) -> None: ...

    def lost_request(self, token: int) -> Request | None:
        return self.lost
