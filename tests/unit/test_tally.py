"""Refusals that are counted together: none is lost, and no caller's flood takes another's rows."""

from __future__ import annotations

from node.tally import MAX_ROWS, Tally


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
