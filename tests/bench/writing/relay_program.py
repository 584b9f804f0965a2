"""The relay's process: carries bytes between clients and the store, and counts those that clients sent.

`python -m tests.bench.writing.relay_program HOST PORT` prints its own port; each line on its standard input is answered with the
count so far, and it ends with that. A thread carries each direction of a connection; no byte is seen by Python (splice(2)).
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading

PIPE_BYTES = 1 << 16


class Counter:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent = 0

    def add(self, count: int) -> None:
        with self._lock:
            self._sent += count

    @property
    def sent(self) -> int:
        return self._sent


def carry(source: socket.socket, target: socket.socket, counter: Counter | None) -> None:
    """Carry bytes until the source ends or one of them breaks; then the target is told that there is no more."""
    read_end, write_end = os.pipe()
    try:
        with contextlib.suppress(OSError):
            while count := os.splice(source.fileno(), write_end, PIPE_BYTES):
                if counter is not None:
                    counter.add(count)
                while count:
                    count -= os.splice(read_end, target.fileno(), count)
    finally:
        os.close(read_end)
        os.close(write_end)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def connect(client: socket.socket, store: tuple[str, int], counter: Counter) -> None:
    with client:
        try:
            server = socket.create_connection(store, 30)
        except OSError:
            return
        with server:
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=carry, args=(server, client, None), daemon=True)
            answers.start()
            carry(client, server, counter)
            answers.join()


def accept(listener: socket.socket, store: tuple[str, int], counter: Counter) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=connect, args=(client, store, counter), daemon=True).start()


def main() -> None:
    store = (sys.argv[1], int(sys.argv[2]))
    counter = Counter()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=accept, args=(listener, store, counter), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        while sys.stdin.readline():
            print(counter.sent, flush=True)


if __name__ == "__main__":
    main()
