"""One thread at a time has the turn; who gives it away gets it back when the next one is done."""

from __future__ import annotations

import threading
import time

from fusecache.fuse.native.turn import Turn


def test_one_has_it_and_the_next_gets_it_when_it_is_given_away() -> None:
    turn = Turn()
    having = 0
    most = 0
    rounds = [0, 0, 0]

    def work(number: int) -> None:
        nonlocal having, most
        for _ in range(200):
            turn.take()
            turn.take()  # a second time is no matter
            having += 1
            most = max(most, having)
            time.sleep(0)
            having -= 1
            rounds[number] += 1
            turn.give()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert rounds == [200, 200, 200]
    assert most == 1


def test_who_does_not_have_it_cannot_give_it_away() -> None:
    turn = Turn()
    turn.take()
    other = threading.Thread(target=turn.give)
    other.start()
    other.join(5)
    got = threading.Event()
    waiting = threading.Thread(target=lambda: (turn.take(), got.set(), turn.give()))
    waiting.start()
    assert not got.wait(0.1)
    turn.give()
    assert got.wait(5)
    waiting.join(5)
