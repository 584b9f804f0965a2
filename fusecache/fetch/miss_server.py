"""The miss socket: takes requests from readers (serve, peer), answers them, holds their leases.

One task per connection. A connection's end drops everything it held. Sends never block the loop: a reader that does not read
its answers is disconnected, it will come back and ask again.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from fusecache.contract.changes import Change
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import MAX_MESSAGE_BYTES, STATUS_BOUNCE, STATUS_OK, Answer, Op, Request
from fusecache.contract.mount_spec import MountSpec
from fusecache.fetch.bounced_reads import BouncedReads
from fusecache.fetch.cache import Cache
from fusecache.fetch.flights import Waiter
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.index.sealed import IndexDamagedError
from fusecache.tiers.block_store import BlockId

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
MAX_UNSENT = 10_000  # answers that a reader may leave unread: more than the kernel has requests (2048 in the background)
UNREADABLE_AFTER = 2  # a block that readers miss so often within UNREADABLE_SECONDS although it is in the index is looked at
UNREADABLE_SECONDS = 2.0


@dataclass(slots=True, eq=False)
class Connection:
    stream: trio.socket.SocketType
    serve_index: int = -1
    waiters: dict[int, Waiter] = field(default_factory=dict)
    leases: dict[int, list[BlockId]] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)  # token -> bounce slot
    tasks: dict[int, trio.CancelScope] = field(default_factory=dict)
    changes: dict[int, int] = field(default_factory=dict)  # token -> unique of a change that was made
    unsent: collections.deque[bytes] = field(default_factory=collections.deque)  # what the socket did not take; a task sends it
    closed: bool = False


class MissServer:
    def __init__(
        self,
        spec: MountSpec,
        cache: Cache,
        bounced: BouncedReads,
        nursery: trio.Nursery,
        on_damage: Callable[[IndexDamagedError], None],
    ) -> None:
        self._spec = spec
        self._cache = cache
        self._bounced = bounced
        self._nursery = nursery
        self._on_damage = on_damage
        self._connections: list[Connection] = []
        self._untold: list[Answer] = []
        cache.tell = self.tell
        self._misses_of_cached: dict[BlockId, tuple[int, float]] = {}

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def serve(self, listener: socket.socket) -> None:
        listening = trio.socket.from_stdlib_socket(listener)
        while True:
            stream, _ = await listening.accept()
            if len(self._connections) >= MAX_CONNECTIONS:
                stream.close()
                continue
            connection = Connection(stream)
            self._connections.append(connection)
            self._nursery.start_soon(self._serve_connection, connection)

    async def _serve_connection(self, connection: Connection) -> None:
        try:
            while not connection.closed:
                data = await connection.stream.recv(MAX_MESSAGE_BYTES)
                if not data:
                    return
                self._take(connection, data)
                # More may have arrived: taking it all before the loop turns lets one commit serve many.
                for _ in range(64):
                    try:
                        data = connection.stream._sock.recv(MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT)  # type: ignore[attr-defined]
                    except BlockingIOError:
                        break
                    if not data:
                        return
                    self._take(connection, data)
        except OSError:
            pass
        except IndexDamagedError as error:
            self._on_damage(error)
        finally:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        connection.closed = True
        if connection in self._connections:
            self._connections.remove(connection)
        for waiter in connection.waiters.values():
            self._cache.flights.cancel(waiter)
        for blocks in connection.leases.values():
            self._cache.flights.unlease(blocks)
        for slot in connection.slots.values():
            self._bounced.buffer.release(slot)
        for scope in connection.tasks.values():
            scope.cancel()
        connection.stream.close()
        self._cache.index.env.check_readers()

    # -- requests

    def _take(self, connection: Connection, data: bytes) -> None:
        try:
            request = Request.unpack(data)
        except (ValueError, struct.error) as error:
            log.warning("a message that nobody should send: %s", error)
            return
        if request.op is Op.READ:
            self._read(connection, request)
        elif request.op in (Op.LOOKUP, Op.LIST, Op.ATTRIBUTES):
            self._nursery.start_soon(self._ask, connection, request)
        elif request.op in (Op.CHANGE, Op.SYNC):
            self._nursery.start_soon(self._change, connection, request)
        elif request.op is Op.DONE:
            self._done(connection, request.token)
        elif request.op is Op.SETTLED:
            self._settle(connection, request.token)
        elif request.op is Op.CANCEL:
            self._cancel(connection, request.token)
        elif request.op is Op.HELLO:
            connection.serve_index = request.offset
            untold, self._untold = self._untold, []
            for answer in untold:
                self.tell(answer)
        else:
            self._note(request)

    def _note(self, request: Request) -> None:
        if request.op is Op.WROTE and self._cache.desk is not None:
            self._cache.desk.files.note_written(request.inode)
            return
        row = self._cache.tree.inode(request.inode)
        if row is None:
            return
        if request.op is Op.HINT:
            self._cache.prefetch.note_hint(request.inode, row, request.offset)
        elif request.op is Op.OPENED:
            self._cache.verification.note_open(request.inode, row)
        elif request.op is Op.DAMAGED:
            self._cache.forget_damaged(request.inode, request.offset)

    async def _ask(self, connection: Connection, request: Request) -> None:
        """LOOKUP, LIST, ATTRIBUTES: these may need several calls of the source."""
        if connection.closed:
            return
        status = STATUS_OK
        with trio.CancelScope() as scope:
            connection.tasks[request.token] = scope
            try:
                try:
                    await self._list(request)
                except CacheError as error:
                    if error.kind is not ErrorKind.NO_SPACE:
                        raise
                    await self._list(request)  # the ballast was given up: there may be room now
            except CacheError as error:
                status = int(error.kind)
                if error.kind not in (ErrorKind.NOT_FOUND, ErrorKind.NOT_A_DIRECTORY, ErrorKind.STALE):
                    self._cache.note_reader_error(error)
            except IndexDamagedError as error:
                self._on_damage(error)
        connection.tasks.pop(request.token, None)
        if not scope.cancelled_caught:
            self._send(connection, Answer(Op.ANSWER, request.token, status))

    async def _change(self, connection: Connection, request: Request) -> None:
        """CHANGE and SYNC: what is under way is not taken back, whoever leaves."""
        desk = self._cache.desk
        status, inode = STATUS_OK, 0
        try:
            if desk is None:
                raise CacheError(ErrorKind.READ_ONLY, "the mount is read-only")
            if request.op is Op.SYNC:
                await (desk.files.upload if request.size else desk.files.sync)(request.inode)
            else:
                change = Change.unpack(request.inode, request.name)
                inode = await desk.change(change)
                connection.changes[request.token] = change.unique
        except CacheError as error:
            status = int(error.kind)
            log.debug("a change was refused: %s", error)
        except (ValueError, struct.error) as error:
            log.warning("a change that nobody should ask for: %s", error)
            status = int(ErrorKind.BUG)
        except IndexDamagedError as error:
            self._on_damage(error)
            return
        self._send(connection, Answer(Op.ANSWER, request.token, status, inode))

    async def _list(self, request: Request) -> None:
        listing = self._cache.listing
        if request.op is Op.LOOKUP:
            await listing.look_up(request.inode, request.name)
        elif request.op is Op.LIST:
            await listing.list_more(request.inode, request.offset, self._cache.has_row_after)
        else:
            await listing.make_exact(request.inode)

    def _read(self, connection: Connection, request: Request) -> None:
        row = self._cache.tree.inode(request.inode)
        if row is None:
            self._send(connection, Answer(Op.ANSWER, request.token, int(ErrorKind.STALE)))
            return
        block_size = self._spec.block_size_bytes
        end = min(request.offset + request.size, row.size)
        if end <= request.offset:
            self._send(connection, Answer(Op.ANSWER, request.token, STATUS_OK))
            return
        blocks = range(request.offset // block_size, -(-end // block_size))
        missing = self._missing(connection, request, blocks)
        if row.flags & InodeFlag.GONE and missing:
            self._release(connection, request.token)
            self._send(connection, Answer(Op.ANSWER, request.token, int(ErrorKind.STALE)))
            return
        if not missing:
            self._send(connection, Answer(Op.ANSWER, request.token, STATUS_OK))
            return
        self._fly(connection, request, row, missing, end)
        self._cache.prefetch.note_miss(request.inode, row, blocks.start, len(blocks))

    def _missing(self, connection: Connection, request: Request, blocks: range) -> list[int]:
        """Lease what is there; return the blocks that are not."""
        missing = []
        index = self._cache.index
        held = connection.leases.setdefault(request.token, [])
        with index.read() as txn:
            for block in blocks:
                if index.extents.get(txn, request.inode, block) is None:
                    missing.append(block)
        for block in [block for block in blocks if block not in missing]:
            if self._is_unreadable((request.inode, block)):
                missing.append(block)
            else:
                self._cache.store.leases[(request.inode, block)] += 1
                held.append((request.inode, block))
        return sorted(missing)

    def _is_unreadable(self, block: BlockId) -> bool:
        """A reader misses a block that the index has. Once is a race; again, and the block is forgotten and fetched anew."""
        now = time.monotonic()
        count, since = self._misses_of_cached.get(block, (0, now))
        if now - since > UNREADABLE_SECONDS:
            count, since = 0, now
        if len(self._misses_of_cached) > 4096:
            self._misses_of_cached.clear()
        self._misses_of_cached[block] = (count + 1, since)
        if count + 1 < UNREADABLE_AFTER or self._cache.store.leases[block]:
            return False
        del self._misses_of_cached[block]
        return self._cache.forget_damaged(block[0], block[1])

    def _fly(self, connection: Connection, request: Request, row: Inode, missing: list[int], end: int) -> None:
        token = request.token

        def finish(waiter: Waiter, error: CacheError | None) -> None:
            connection.waiters.pop(token, None)
            if connection.closed:
                self._cache.flights.unlease(waiter.leased)
                return
            connection.leases.setdefault(token, []).extend(waiter.leased)
            if error is not None:
                self._release(connection, token)
                if error.kind is ErrorKind.STALE and self._cache.desk is not None:
                    self._nursery.start_soon(self._answer_stale, connection, request, row, error)
                    return
                self._cache.note_reader_error(error)
            self._send(connection, Answer(Op.ANSWER, token, STATUS_OK if error is None else int(error.kind)))

        def no_room() -> None:
            connection.waiters.pop(token, None)
            self._release(connection, token)
            if not connection.closed:
                self._bounce(connection, request.inode, row, token, request.offset, end - request.offset)

        spent = self._cache.listing.questions.outages.time_spent(row.source)
        deadline = time.monotonic() + self._spec.deadline_seconds - spent
        waiter = Waiter(request.inode, missing, deadline, finish, no_room, leases=True)
        connection.waiters[token] = waiter
        self._cache.flights.want(waiter, row)

    async def _answer_stale(self, connection: Connection, request: Request, row: Inode, error: CacheError) -> None:
        """The store has another version: our own, which lies under the file by now. Then there is something to look at again."""
        assert self._cache.desk is not None
        is_replaced = await self._cache.desk.files.is_replaced_base(request.inode)
        now = self._cache.tree.inode(request.inode)
        if is_replaced or (now is not None and (now.version, now.path) != (row.version, row.path)):
            self._send(connection, Answer(Op.ANSWER, request.token, STATUS_OK))
            return
        self._cache.note_reader_error(error)
        self._send(connection, Answer(Op.ANSWER, request.token, int(error.kind)))

    def _bounce(self, connection: Connection, inode: InodeNo, row: Inode, token: int, offset: int, size: int) -> None:
        def finish(slot: int, error: CacheError | None) -> None:
            if connection.closed:
                if error is None:
                    self._bounced.buffer.release(slot)
                return
            if error is not None:
                self._cache.note_reader_error(error)
                self._send(connection, Answer(Op.ANSWER, token, int(error.kind)))
                return
            connection.slots[token] = slot
            self._send(connection, Answer(Op.ANSWER, token, STATUS_BOUNCE, inode, slot, size))

        self._bounced.read(inode, row, offset, size, finish)

    def _done(self, connection: Connection, token: int) -> None:
        self._release(connection, token)
        slot = connection.slots.pop(token, None)
        if slot is not None:
            self._bounced.buffer.release(slot)

    def _settle(self, connection: Connection, token: int) -> None:
        """Not by DONE, which comes also for what nobody waits for under this token any more, but under another."""
        unique = connection.changes.pop(token, None)
        if unique is not None and self._cache.desk is not None:
            self._cache.desk.settle(unique)

    def _release(self, connection: Connection, token: int) -> None:
        blocks = connection.leases.pop(token, None)
        if blocks:
            self._cache.flights.unlease(blocks)

    def _cancel(self, connection: Connection, token: int) -> None:
        waiter = connection.waiters.pop(token, None)
        if waiter is not None:
            self._cache.flights.cancel(waiter)
        scope = connection.tasks.pop(token, None)
        if scope is not None:
            scope.cancel()
        self._done(connection, token)

    # -- answers

    def _send(self, connection: Connection, answer: Answer) -> None:
        if connection.closed:
            return
        if connection.unsent:
            if len(connection.unsent) >= MAX_UNSENT:
                self._disconnect(connection)
            connection.unsent.append(answer.pack())
            return
        try:
            connection.stream._sock.send(answer.pack(), socket.MSG_DONTWAIT)  # type: ignore[attr-defined]
        except BlockingIOError:  # one commit may answer more reads than a socket holds
            connection.unsent.append(answer.pack())
            self._nursery.start_soon(self._send_unsent, connection)
        except OSError:
            self._disconnect(connection)

    async def _send_unsent(self, connection: Connection) -> None:
        """One task a connection, while there is something to send."""
        try:
            while connection.unsent:
                await connection.stream.send(connection.unsent[0])
                connection.unsent.popleft()
        except (OSError, trio.ClosedResourceError):
            connection.unsent.clear()
            self._disconnect(connection)

    def _disconnect(self, connection: Connection) -> None:
        """The task that serves it sees the end and cleans up."""
        with contextlib.suppress(OSError):
            connection.stream.shutdown(socket.SHUT_RDWR)

    def tell(self, answer: Answer) -> None:
        """Pass an INVALIDATE_* on to one serve process; kept until one is there."""
        for connection in self._connections:
            if connection.serve_index >= 0 and not connection.closed:
                self._send(connection, answer)
                return
        self._untold.append(answer)
        del self._untold[:-10_000]
