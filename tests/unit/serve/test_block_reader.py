"""Reading: every edge of blocks and granules, and every kind of damage, which must never become a wrong byte."""

from __future__ import annotations

import os
import random
import shutil
import threading

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op
from fusecache.fuse.filesystem_protocol import ROOT_INODE, Miss
from fusecache.index.extents import ExtentFlag
from fusecache.index.inodes import InodeFlag
from tests.support.cache_builder import BuiltFile, content
from tests.support.log_check import LogCheck
from tests.unit.serve.conftest import Served

DAMAGED = r"block \d+ of inode \d+ is damaged or gone"


def read(served: Served, file: BuiltFile, offset: int, size: int) -> bytes:
    return b"".join(bytes(piece) for piece in served.fs.read(file.inode, offset, size))


def miss_of(served: Served, file: BuiltFile, offset: int, size: int) -> Miss:
    with pytest.raises(Miss) as caught:
        served.fs.read(file.inode, offset, size)
    return caught.value


@pytest.mark.parametrize("size", [1, 15, 16, 17, 63, 64, 65, 128, 200, 300])
def test_every_range_of_a_file(served: Served, size: int) -> None:
    file = served.cache.file(ROOT_INODE, b"f", content("f", size))
    generator = random.Random(size)
    for _ in range(200):
        offset, length = generator.randrange(size + 20), generator.randrange(1, size + 40)
        assert read(served, file, offset, length) == file.data[offset : offset + length], (offset, length)
    assert not served.misses.told


def test_reads_beyond_the_end_are_empty(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"abc")
    empty = served.cache.file(ROOT_INODE, b"empty", b"")
    for offset in (3, 4, 4096, 2**63 - 1):
        assert read(served, file, offset, 4096) == b""
        assert read(served, empty, offset, 4096) == b""


def test_files_of_one_segment_are_not_mixed_up(served: Served) -> None:
    files = [served.cache.file(ROOT_INODE, b"%d" % number, content(str(number), 40)) for number in range(20)]
    assert all(read(served, file, 3, 30) == file.data[3:33] for file in files)


def test_a_missing_block_misses_for_what_is_in_the_file(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200), cached=False)
    served.cache.cache(file, blocks=range(2))
    assert read(served, file, 0, 128) == file.data[:128]
    miss = miss_of(served, file, 100, 4096)
    assert (miss.op, miss.inode, miss.offset, miss.size) == (Op.READ, file.inode, 100, 100)
    assert not served.misses.told


def test_a_version_that_is_gone_is_stale_where_it_is_not_cached(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200), cached=False, flags=InodeFlag.GONE | InodeFlag.ORPHAN)
    served.cache.cache(file, blocks=range(2))
    assert read(served, file, 0, 128) == file.data[:128]
    with pytest.raises(CacheError) as caught:
        read(served, file, 100, 100)
    assert caught.value.kind is ErrorKind.STALE


@pytest.mark.parametrize("offset", [0, 15, 16, 63])
def test_a_flipped_bit_is_a_miss_for_reads_of_that_granule_only(served: Served, offset: int, expect_log: LogCheck) -> None:
    expect_log(DAMAGED)
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200))
    served.cache.damage(file.inode, offset, block=1)
    granule = 64 + offset // 16 * 16
    for start in range(0, 200, 16):
        if start == granule:
            miss = miss_of(served, file, start, 16)
            assert (miss.op, miss.offset, miss.size) == (Op.READ, start, 16)
        else:
            assert read(served, file, start, 16) == file.data[start : start + 16]
    assert served.checksum_failures == 1
    assert served.misses.told_of(Op.DAMAGED) == [(file.inode, 1)]


def swap_blocks(served: Served, first: BuiltFile, second: BuiltFile, block: int) -> None:
    """Exchange two cached blocks' bytes on disk."""
    places = [
        (served.cache.container_file(file.inode, block), served.cache.extent(file.inode, block)) for file in (first, second)
    ]
    data = [path.read_bytes()[extent.offset : extent.offset + extent.length] for path, extent in places]
    for (path, extent), other in zip(places, reversed(data), strict=True):
        with path.open("r+b") as file:
            file.seek(extent.offset)
            file.write(other)


@pytest.mark.parametrize("case", ["another block", "another object", "an older version"])
def test_swapped_blocks_are_noticed(served: Served, case: str, expect_log: LogCheck) -> None:
    expect_log(DAMAGED)
    file = served.cache.file(ROOT_INODE, b"f", content("f", 192))
    if case == "another block":
        first, second = served.cache.extent(file.inode, 0), served.cache.extent(file.inode, 1)
        served.cache.put_extent(file.inode, 0, first._replace(offset=second.offset))
    elif case == "another object":
        swap_blocks(served, file, served.cache.file(ROOT_INODE, b"g", content("g", 192)), 0)
    else:
        older = served.cache.file(ROOT_INODE, b"f", content("f", 192), version=b"older")
        extent = served.cache.extent(older.inode, 0)
        # The same bytes, but another version's: even then they are not this version's block.
        served.cache.put_extent(file.inode, 0, extent)
    miss_of(served, file, 0, 64)
    assert served.checksum_failures == 1
    assert read(served, file, 128, 64) == file.data[128:]


@pytest.mark.parametrize("how", ["truncated", "zeroed", "removed", "emptied", "its directory removed", "a link"])
def test_a_container_that_was_tampered_with_is_a_miss(served: Served, how: str, expect_log: LogCheck) -> None:
    expect_log(DAMAGED)
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200))
    path = served.cache.container_file(file.inode)
    if how == "truncated":
        os.truncate(path, 100)
    elif how == "zeroed":
        path.write_bytes(bytes(200))
    elif how == "emptied":
        os.truncate(path, 0)
    elif how == "removed":
        path.unlink()
    elif how == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to(path.with_name("elsewhere"))
    else:
        shutil.rmtree(path.parent)
    miss_of(served, file, 64, 128)
    assert served.misses.told_of(Op.DAMAGED) == [(file.inode, 1)]
    assert served.checksum_failures == 1


def test_after_damage_the_container_is_opened_anew(served: Served, expect_log: LogCheck) -> None:
    expect_log(DAMAGED)
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200))
    path = served.cache.container_file(file.inode)
    good = path.read_bytes()
    os.truncate(path, 0)
    miss_of(served, file, 0, 200)
    path.unlink()
    path.write_bytes(good)
    assert read(served, file, 0, 200) == file.data


@pytest.mark.parametrize("field", ["tier", "length", "checksums"])
def test_an_extent_that_cannot_be_is_a_miss(served: Served, field: str, expect_log: LogCheck) -> None:
    expect_log(DAMAGED)
    file = served.cache.file(ROOT_INODE, b"f", content("f", 64))
    extent = served.cache.extent(file.inode)
    wrong = {"tier": extent._replace(tier=9), "length": extent._replace(length=48), "checksums": extent._replace(checksums=())}
    served.cache.put_extent(file.inode, 0, wrong[field])
    miss_of(served, file, 0, 64)


def test_reads_mark_their_blocks(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200))
    read(served, file, 70, 60)
    marked = [served.cache.marks.is_set(served.cache.extent(file.inode, block).order) for block in range(4)]
    assert marked == [False, True, True, False]


def test_a_prefetch_mark_is_told_once(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200), cached=False)
    served.cache.cache(file, blocks=range(1))
    served.cache.cache(file, blocks=range(1, 2), flags=ExtentFlag.PREFETCH_MARK)
    for offset in range(0, 128, 16):
        read(served, file, offset, 16)
    assert served.misses.told_of(Op.HINT) == [(file.inode, 1)]


@pytest.mark.parametrize(
    ("make", "kind"), [("directory", ErrorKind.IS_A_DIRECTORY), ("symlink", ErrorKind.INVALID), ("none", ErrorKind.STALE)]
)
def test_what_cannot_be_read(served: Served, make: str, kind: ErrorKind) -> None:
    inode = served.cache.new_inode()
    if make == "directory":
        inode = served.cache.directory(ROOT_INODE, b"d")
    elif make == "symlink":
        inode = served.cache.symlink(ROOT_INODE, b"l", b"target")
    with pytest.raises(CacheError) as caught:
        served.fs.read(inode, 0, 1)
    assert caught.value.kind is kind


def test_threads_have_buffers_of_their_own(served: Served) -> None:
    files = [served.cache.file(ROOT_INODE, b"%d" % number, content(str(number), 5000)) for number in range(4)]
    wrong: list[str] = []

    def reader(seed: int) -> None:
        generator = random.Random(seed)
        for _ in range(300):
            file = generator.choice(files)
            offset = generator.randrange(5000)
            if read(served, file, offset, 700) != file.data[offset : offset + 700]:
                wrong.append(f"{file.inode} at {offset}")

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
