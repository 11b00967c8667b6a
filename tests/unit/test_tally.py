"""Refusals that are counted together: none is lost, and no caller's flood takes another's rows."""

from __future__ import annotations

from node.tally import MAX_LINES, MAX_ROWS, Sparing, Tally


def test_the_first_refusals_of_each_caller_have_rows_of_their_own() -> None:
    tally = Tally()
    assert [tally.has_room("33") for _ in range(MAX_ROWS + 2)] == [True] * MAX_ROWS + [False, False]
    assert tally.has_room("35")


def test_a_drain_gives_everything_once_and_makes_room_again() -> None:
    tally = Tally()
    for _ in range(MAX_ROWS + 1):
        tally.has_room("33")
    tally.add("33", "refused", "clock: too far off")
    tally.add("33", "busy")
    tally.add("33", "busy")
    assert tally.drain() == {("33", "refused", "clock: too far off"): 1, ("33", "busy", None): 2}
    assert not tally.drain()
    assert tally.has_room("33")


def test_what_could_not_be_written_is_counted_with_what_came_since() -> None:
    tally = Tally()
    tally.add("33", "busy")
    kept = tally.drain()
    tally.add("33", "busy")
    tally.put_back(kept)
    assert tally.drain() == {("33", "busy", None): 2}


def test_one_refused_caller_fills_neither_the_log_nor_anothers_place_in_it() -> None:
    seconds = [0.0]
    sparing = Sparing(lambda: seconds[0])
    assert [sparing.has_room("one") for _ in range(MAX_ROWS + 2)] == [True] * MAX_ROWS + [False, False]
    assert sparing.has_room("another")
    assert sparing.new_minute() == 0  # it is not over
    seconds[0] = 60.0
    assert sparing.new_minute() == 2
    assert sparing.new_minute() == 0
    assert sparing.has_room("one")


def test_however_many_refused_callers_there_are_the_log_has_a_limit() -> None:
    sparing = Sparing(lambda: 0.0)
    assert sum(sparing.has_room(str(number)) for number in range(MAX_LINES + 500)) == MAX_LINES
