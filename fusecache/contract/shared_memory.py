"""The memfd that custody holds for a FUSE connection: all state that outlives fetch and serve.

Layout (offsets from `Layout`): one header page; one page of counters for fetch and one for each serve process; then for each
serve process its landing slots (one per reading thread, and some to spare) and its table of parked requests.

- *Landing slot*: the kernel writes a request straight into it. `length` of the FUSE header inside (first u32) is zeroed before
  the read and again after the reply was written; non-zero after a death means: taken and perhaps not answered.
- *Parked entry*: a request that waits for fetch is copied here before the thread reads its next one, so that a stalled miss
  never stops hits. `state` is written last when parking and first when clearing. A WRITE is too long for that: it stays where it
  landed, and its thread goes on with a spare slot.
- *Applied*: a request that must not take effect twice is marked between its effect and its answer. Before the answer nothing can
  follow that its repetition would undo; after it, a sibling may have taken the next WRITE to the same bytes already.
- `attempts` counts how often a (dead) serve process started on the request; the third attempt answers EIO, so that a poisonous
  request cannot kill for ever.
All integers are little-endian; single aligned 32/64-bit stores through mmap are atomic enough on the platforms we support. Each
region has one writer: header (custody and the first serve at INIT; fetch for access, epoch and next inode), counters (their
process), slots and table (their serve process). Only the mailboxes for INTERRUPTs, from byte 1024 of each serve's counter page
on, are written by its sibling processes (fuse/native/interrupts.py).
"""

from __future__ import annotations

import enum
import mmap
import struct
from dataclasses import dataclass

MAGIC = b"fusecash"
LAYOUT_VERSION = 1
PAGE = 4096
WRITE_LANDING_BYTES = (1 << 20) + PAGE  # of a mount that may be written: WRITEs of 1 MiB, as the kernel sends at most
BOUNCE_BYTES = 64 << 20  # the bounce buffer, a memfd of its own, sparse until used (contract/messages.py says how it is used)

# header page: offset of each u64 field
H_MAGIC = 0
H_LAYOUT_VERSION = 8
H_SERVE_COUNT = 16
H_READERS = 24
H_LANDING_BYTES = 32
H_TABLE_ENTRIES = 40
H_SPARE_SLOTS = 48
H_INIT_DONE = 64  # 1 after INIT was answered; the fields below hold what was negotiated
H_INIT_MINOR = 72
H_INIT_FLAGS = 80  # flags | flags2 << 32
H_MAX_WRITE = 88
H_MAX_READAHEAD = 96
H_MAX_PAGES = 104
H_EPOCH = 128  # high 16 bits of every inode number of this connection's index (fetch)
H_NEXT_INODE = 136  # no inode number at or above this was ever answered (fetch)
H_ACCESS = 144  # 0 undecided, 1 openless, 2 passthrough (fetch, before serve starts)
H_STAGES_FULL = 152  # 1: what is written and not uploaded has reached its quota (fetch)

ACCESS_UNDECIDED, ACCESS_OPENLESS, ACCESS_PASSTHROUGH = 0, 1, 2

ENTRY_BYTES = 1024
# State (0 free, 1 parked), attempts, length, progress, unique; the request follows. Progress: bit 0 running, bit 1 applied,
# from bit 16 on the errno that was going to be answered.
ENTRY_HEADER = struct.Struct("<IIIIQ")
SLOT_HEADER_BYTES = 64  # u32 attempts, u32 unused, u64 unique of what was applied, then unused; the landing buffer follows
WRITE_SPARE_SLOTS = 4  # of a mount that may be written: so many WRITEs wait for bytes of their file at once, in each process
MAX_ATTEMPTS = 3
U64 = struct.Struct("<Q")
U32 = struct.Struct("<I")


Buffer = mmap.mmap | memoryview | bytearray


class Counter(enum.IntEnum):
    """Index of a u64 in a counter page. Serve pages use the first group, the fetch page the second."""

    REQUESTS = 0
    HIT_BYTES = 1
    MISS_BYTES = 2  # bytes of READs that had to ask fetch
    READ_ERRORS = 3  # error answers to READ
    CHECKSUM_FAILURES = 4
    REPLAYED = 5
    POISONED = 6
    HITS = 7
    MISSES = 8
    OTHER_ERRORS = 9  # EIO and the like to anything but READ; ENOENT and EROFS are not errors
    PASSTHROUGH_OPENS = 10

    REMOTE_BYTES = 32
    REMOTE_REQUESTS = 33
    REMOTE_ERRORS = 34
    REMOTE_RETRIES = 35
    TIER_ERRORS = 36
    EVICTED_BYTES = 37
    DEMOTED_BYTES = 38
    BOUNCED_BYTES = 39
    HIDDEN = 40
    FETCH_CHECKSUM_FAILURES = 41
    PREFETCHED_BYTES = 42
    INDEX_ERRORS = 43
    PEER_BYTES = 44  # that other nodes gave
    PEER_HIT_BYTES = 45  # of them, what these nodes had when they were asked
    PEER_REQUESTS = 46
    PEER_ERRORS = 47  # requests that a peer did not answer with what was asked for: the store was asked
    PEER_SERVED_BYTES = 48  # given to other nodes


ANSWERING = PAGE // 8 - 1  # the last u64 of a serve page, which counts nothing: 1 while a request is being answered


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are; every process computes the same from the header.

    Attributes:
        readers: reading threads of one serve process; more than one is of use only while others wait for a disk.
        landing_bytes: size of one landing buffer: max_write + 4096 at least.
        table_entries: parked requests of one serve process.
        spare_slots: landing slots beyond one for each reading thread.
    """

    serve_count: int
    readers: int = 4
    landing_bytes: int = 132 << 10
    table_entries: int = 4096
    spare_slots: int = 0

    @classmethod
    def read(cls, memory: Buffer) -> Layout:
        """Return the layout that the header tells."""
        fields = (H_SERVE_COUNT, H_READERS, H_LANDING_BYTES, H_TABLE_ENTRIES, H_SPARE_SLOTS)
        return cls(*(U64.unpack_from(memory, field)[0] for field in fields))

    def write(self, memory: Buffer) -> None:
        """Put the layout into the header."""
        fields = (H_SERVE_COUNT, H_READERS, H_LANDING_BYTES, H_TABLE_ENTRIES, H_SPARE_SLOTS)
        values = (self.serve_count, self.readers, self.landing_bytes, self.table_entries, self.spare_slots)
        for field, value in zip(fields, values, strict=True):
            U64.pack_into(memory, field, value)

    @property
    def fetch_counters(self) -> int:
        return PAGE

    def serve_counters(self, serve_index: int) -> int:
        return PAGE * (2 + serve_index)

    @property
    def _slots_start(self) -> int:
        return PAGE * (2 + self.serve_count)

    @property
    def slot_bytes(self) -> int:
        return SLOT_HEADER_BYTES + self.landing_bytes

    @property
    def _serve_region_bytes(self) -> int:
        raw = (self.readers + self.spare_slots) * self.slot_bytes + self.table_entries * ENTRY_BYTES
        return -(-raw // PAGE) * PAGE

    def slot(self, serve_index: int, reader: int) -> int:
        return self._slots_start + serve_index * self._serve_region_bytes + reader * self.slot_bytes

    def table(self, serve_index: int) -> int:
        return self.slot(serve_index, self.readers + self.spare_slots)

    @property
    def total_bytes(self) -> int:
        return self._slots_start + self.serve_count * self._serve_region_bytes
