"""Writers, what they write, and what is said of it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.bench import columns, records
from tests.bench.figures import Figure
from tests.bench.readers import READER, ReadFailedError, run_readers
from tests.bench.results import Table
from tests.bench.sessions import SESSIONS
from tests.bench.settings import Settings
from tests.bench.writing import content
from tests.bench.writing.relay import Relay
from tests.bench.writing.sessions import JOBS

MIB = 1 << 20
SETTINGS = Settings(big_bytes=2 * MIB, files=70, rounds=1, contenders=(), columns=())
FILES = [{"name": "a", "first": 0, "size": 2 * MIB + 5}, {"name": "b", "first": 1, "size": 40_000}]


def write(root: Path, job: str, files: list[dict[str, Any]]) -> int:
    order = {"do": "foreign", "program": str(JOBS), "thorough": False, "root": str(root), "job": job, "files": files}
    return run_readers(READER, [order], os.environ, 30.0, lambda: None).amount


def test_no_two_pieces_are_alike() -> None:
    numbers = [*range(5000), *range(content.PATCHES, content.PATCHES + 10)]
    assert len({bytes(content.piece(number, 64)) for number in numbers}) == len(numbers)


def test_what_writers_write_is_what_is_looked_for(tmp_path: Path) -> None:
    assert write(tmp_path, "whole", FILES) == 2 * MIB + 5 + 40_000
    assert (tmp_path / "a").read_bytes() == b"".join(content.pieces(FILES[0]))
    assert write(tmp_path, "check", FILES) == 2


@pytest.mark.parametrize("offset", [0, 1000, MIB - 1, MIB + 5])
def test_a_patch_is_looked_for_where_it_was_written(tmp_path: Path, offset: int) -> None:
    write(tmp_path, "whole", FILES)
    patched = [{**FILES[0], "patch": [offset, content.PATCHES]}]
    assert write(tmp_path, "patch", patched) == 1
    assert write(tmp_path, "check", patched) == 1
    with pytest.raises(ReadFailedError, match="other bytes than were written"):
        write(tmp_path, "check", FILES)


def test_a_writer_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ReadFailedError, match="No such file"):
        write(tmp_path / "absent", "small", FILES)


def test_a_relay_counts_what_clients_send() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer, peer.makefile("rb") as stream:
                peer.sendall(b"%d" % len(stream.read()))

        server = threading.Thread(target=answer)
        server.start()
        with Relay(f"http://127.0.0.1:{listener.getsockname()[1]}") as relay:
            port = int(relay.endpoint_url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), 10) as client, client.makefile("rb") as stream:
                client.sendall(bytes(300_000))
                client.shutdown(socket.SHUT_WR)
                assert stream.read() == b"300000"
            assert relay.sent_bytes() == 300_000
        server.join()


def test_writing_has_records_of_its_own() -> None:
    rates = {("fusecache", "write-big"): 90.0, ("bare", "write-big"): 100.0, ("juicefs", "write-big"): 80.0}
    rates |= {("fusecache", "write-middle-sent"): 16.0, ("fusecache", "write-readback"): 50.0, ("fusecache", "big-cached"): 100.0}
    table = Table([Figure(contender, column, 0, rate, 1.0) for (contender, column), rate in rates.items()])
    judged = [one for one in records.judge(table, SETTINGS) if str(one.record.row).startswith("W")]
    assert [(one.record.row, one.verdict) for one in judged if one.value is not None] == [
        *(("W1", "yes"), ("W1", "yes"), ("W3", "yes"), ("W4", "no"))
    ]


def test_sessions_of_writing_begin_with_the_writing() -> None:
    writing = [session for session in SESSIONS if session.part == "writes"]
    assert {name for session in writing for name in session.columns} == set(columns.select(["writes"]))
    assert all(columns.BY_NAME[session.columns[0]].job in columns.WRITING for session in writing)
