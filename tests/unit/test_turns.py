"""Callers share the searching threads in turn."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING

import pytest

from node.turns import AT_A_RUN, PACE_NS, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

WAIT_S = 30.0


class Kept:
    """Stands for a question that waits."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def behind(gate: threading.Event) -> Callable[[], None]:
    """Work that is done when the gate opens."""
    return lambda: assert_open(gate)


def assert_open(gate: threading.Event) -> None:
    assert gate.wait(WAIT_S)


def test_one_callers_queue_lets_every_other_caller_in_between(gate: threading.Event) -> None:
    turns, done, begun = Turns(1, "t"), list[str](), threading.Event()

    def first() -> None:
        begun.set()
        assert_open(gate)

    pieces: list[Future[None]] = [turns.submit("33", first)]
    assert begun.wait(WAIT_S)
    for caller, name in (("33", "a"), ("33", "b"), ("33", "c"), ("35", "x"), ("36", "y"), ("35", "z")):
        pieces.append(turns.submit(caller, partial(done.append, name)))
    gate.set()
    for piece in pieces:
        piece.result(WAIT_S)
    assert done == ["a", "x", "y", "b", "z", "c"]
    turns.close()


def test_a_caller_never_has_all_the_threads(gate: threading.Event) -> None:
    turns = Turns(2, "t")
    flood = [turns.submit("33", behind(gate)) for _ in range(4)]
    assert turns.submit("35", lambda: "answered").result(WAIT_S) == "answered"
    assert not any(piece.done() for piece in flood)
    gate.set()
    for piece in flood:
        piece.result(WAIT_S)
    turns.close()


def test_after_a_long_run_a_caller_waits_for_its_pace_and_nobody_else_does() -> None:
    now_ns = 0
    turns = Turns(2, "t", monotonic_ns=lambda: now_ns)
    for piece in [turns.submit("33", lambda: None) for _ in range(AT_A_RUN)]:
        piece.result(WAIT_S)
    further = [turns.submit("33", lambda: None) for _ in range(3)]
    assert turns.submit("35", lambda: "answered").result(WAIT_S) == "answered"
    assert not any(piece.done() for piece in further)
    now_ns = 2 * PACE_NS
    for piece in further[:2]:
        piece.result(WAIT_S)
    assert turns.submit("35", lambda: "answered").result(WAIT_S) == "answered"
    assert not further[2].done()
    now_ns = 3 * PACE_NS
    further[2].result(WAIT_S)
    turns.close()


def test_what_was_given_up_while_it_waited_for_its_pace_is_kept_no_longer() -> None:
    turns = Turns(2, "t", monotonic_ns=lambda: 0)
    for piece in [turns.submit("33", lambda: None) for _ in range(AT_A_RUN)]:
        piece.result(WAIT_S)
    kept = Kept()
    still = weakref.ref(kept)
    waiting = turns.submit("33", partial(id, kept))
    del kept
    assert still() is not None
    assert waiting.cancel()
    del waiting
    gc.collect()
    assert still() is None
    turns.close()


def test_closing_waits_for_no_pace() -> None:
    turns = Turns(1, "t", monotonic_ns=lambda: 0)
    pieces = [turns.submit("33", lambda: None) for _ in range(2 * AT_A_RUN)]
    turns.close()
    assert all(piece.done() for piece in pieces)


def test_an_error_is_told_to_who_waits_and_ends_no_thread() -> None:
    turns = Turns(1, "t")
    with pytest.raises(ZeroDivisionError):
        turns.submit("33", lambda: 1 // 0).result(WAIT_S)
    assert turns.submit("33", lambda: 7).result(WAIT_S) == 7
    turns.close()


def test_what_was_cancelled_before_its_turn_is_not_done(gate: threading.Event) -> None:
    turns, done = Turns(1, "t"), list[str]()
    turns.submit("33", behind(gate))
    given_up = turns.submit("33", lambda: done.append("given up"))
    assert given_up.cancel()
    gate.set()
    turns.close()
    assert done == []


def test_closing_does_what_was_handed_in_and_takes_no_more(gate: threading.Event) -> None:
    turns, done = Turns(2, "t"), list[int]()
    turns.submit("33", behind(gate))
    for number in range(5):
        turns.submit("33", partial(done.append, number))
    gate.set()
    turns.close()
    assert done == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError):
        turns.submit("33", lambda: None)
