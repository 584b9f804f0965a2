"""The short memories are bounded, and forget in time."""

from __future__ import annotations

from fusecache.contract.messages import Op
from fusecache.serve.questions import FORGET_SECONDS, MAX_QUESTIONS, Questions
from fusecache.serve.recently import Recently

KEY = (Op.LOOKUP, 1, b"name")


def test_the_first_time_and_the_pass_stay_while_rounds_grow() -> None:
    questions = Questions()
    questions.ask(KEY, 100.0, 7)
    questions.ask(KEY, 101.0, 8)
    found = questions.get(KEY, 102.0)
    assert found == (100.0, 7, 2)
    questions.answered(KEY)
    assert questions.get(KEY, 102.0) is None


def test_a_question_that_nobody_waits_for_is_forgotten() -> None:
    questions = Questions()
    questions.ask(KEY, 100.0, 1)
    later = 100.0 + FORGET_SECONDS
    assert questions.get(KEY, later) is None
    questions.ask(KEY, later, 2)
    assert questions.get(KEY, later) == (later, 2, 1)


def test_questions_are_bounded() -> None:
    questions = Questions()
    for number in range(MAX_QUESTIONS + 100):
        questions.ask((Op.LOOKUP, number, b""), 0.0, 0)
    assert len(questions) == MAX_QUESTIONS
    assert questions.get((Op.LOOKUP, MAX_QUESTIONS + 99, b""), 0.0) is not None


def test_recently_says_so_once_and_again_after_a_while() -> None:
    now = [0.0]
    recently = Recently(2.0, 3, clock=lambda: now[0])
    assert recently.first_time("a")
    assert not recently.first_time("a")
    now[0] = 2.0
    assert recently.first_time("a")
    assert [recently.first_time(key) for key in "bcd"] == [True, True, True]
    assert recently.first_time("a")  # pushed out by the others
