"""Whose clock is wrong is decided by a majority of peers, and never by one of them alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from node.clock import ClockWatch, Offset, offset_of

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def watch(*seconds: float, within_s: float = 0.1) -> ClockWatch:
    made = ClockWatch()
    for number, each in enumerate(seconds):
        made.note(f"{31 + number}", Offset(each, within_s))
    return made


def test_the_offset_is_taken_at_the_middle_of_the_exchange() -> None:
    theirs = NOON + timedelta(seconds=41)
    offset = offset_of(theirs, NOON, NOON + timedelta(seconds=2))
    assert (offset.seconds, offset.within_s) == (40.0, 1.0)


def test_what_the_exchange_may_have_cost_is_not_held_against_a_clock() -> None:
    assert not Offset(31.0, 1.5).is_beyond(30)
    assert Offset(-31.0, 0.5).is_beyond(30)


@pytest.mark.parametrize(
    ("seconds", "problem", "note"),
    [
        ((0.0, 0.1, -0.2), None, None),
        ((29.0, 29.0, 29.0), None, None),
        ((45.0, 43.0, 0.0), None, "44 s behind those of 2 of 3"),
        ((-45.0, -46.0), None, "46 s ahead of those of 2 of 2"),
        ((600.0, 601.0, 0.0), "600 s behind those of 2 of 3", "behind"),
        ((-600.0, -600.0, -600.0), "600 s ahead of those of 3 of 3", "ahead"),
        ((600.0, -600.0), None, "province 31: 600 s ahead of ours; province 32: 600 s behind ours"),
        ((600.0, 0.0, 0.0), None, "province 31: 600 s ahead of ours"),  # its clock, not ours
        ((600.0,), None, "600 s behind those of 1 of 1"),  # one peer alone closes nobody
        ((), None, None),
    ],
)
def test_a_majority_on_one_side_decides(seconds: tuple[float, ...], problem: str | None, note: str | None) -> None:
    seen = watch(*seconds)
    for found, expected in ((seen.problem(), problem), (seen.note_for_admin(), note)):
        assert (found is None) == (expected is None), found
        assert expected is None or expected in str(found)


def test_what_was_measured_long_ago_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch(600.0, 600.0)
    assert seen.problem()
    at = time.monotonic() + 301
    monkeypatch.setattr("node.clock.time.monotonic", lambda: at)
    assert seen.problem() is None
