"""The arithmetic of budgets: no order of times, however a clock moves, gives more than the limits."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from node.budget import MONTH_DAYS, Budget, Budgets, Scope, charge, day_of, left
from node.errors import QueryBudgetError

LIMITS = st.integers(1, 6).flatmap(lambda day: st.tuples(st.just(day), st.integers(day, 20)))


def ask(budget: Budget, days: list[int]) -> tuple[list[bool], Counter[int]]:
    """Ask once on each day of a clock's reading; return what was allowed, and what was counted by day."""
    spent: Counter[int] = Counter()
    allowed = []
    for today in days:
        try:
            spent[charge(Scope.PEER, budget, dict(spent), today)] += 1
        except QueryBudgetError:
            allowed.append(False)
        else:
            allowed.append(True)
    return allowed, spent


@settings(deadline=None)  # a loaded machine says nothing about the arithmetic
@given(LIMITS, st.lists(st.integers(0, 70), max_size=120))
def test_no_day_and_no_30_days_in_a_row_hold_more_than_the_budget(limits: tuple[int, int], days: list[int]) -> None:
    budget = Budget(*limits)
    _, spent = ask(budget, days)
    assert max(spent.values(), default=0) <= budget.per_day
    for start in range(-MONTH_DAYS, 71):
        assert sum(spent[day] for day in range(start, start + MONTH_DAYS)) <= budget.per_month


@settings(deadline=None)  # a loaded machine says nothing about the arithmetic
@given(LIMITS, st.lists(st.integers(0, 70), max_size=120))
def test_a_clock_that_moves_back_gives_nothing_again(limits: tuple[int, int], days: list[int]) -> None:
    # What counts is the latest day the clock has ever shown: until it shows a later one, one day's budget is all.
    budget = Budget(*limits)
    allowed, _ = ask(budget, days)
    since: Counter[int] = Counter()
    latest = -1
    for day, granted in zip(days, allowed, strict=True):
        latest = max(latest, day) if granted or day > latest else latest
        since[latest] += granted
    assert max(since.values(), default=0) <= budget.per_day


@settings(deadline=None)  # a loaded machine says nothing about the arithmetic
@given(LIMITS, st.lists(st.integers(0, 70), max_size=120))
def test_whoever_asks_within_the_budget_is_never_refused(limits: tuple[int, int], days: list[int]) -> None:
    budget = Budget(*limits)
    honest: list[int] = []
    for day in sorted(days):
        window = [each for each in honest if day - MONTH_DAYS < each <= day]
        if window.count(day) < budget.per_day and len(window) < budget.per_month:
            honest.append(day)
    allowed, _ = ask(budget, honest)
    assert all(allowed)


def test_a_day_ends_at_midnight_utc_wherever_the_clock_stands() -> None:
    jakarta = timezone(timedelta(hours=7))
    assert day_of(datetime(2026, 3, 1, 6, 59, tzinfo=jakarta)) == day_of(datetime(2026, 2, 28, 23, 59, tzinfo=UTC))
    assert day_of(datetime(2026, 3, 1, 7, 0, tzinfo=jakarta)) == day_of(datetime(2026, 3, 1, tzinfo=UTC))


def test_the_thirtieth_day_after_is_a_new_month() -> None:
    budget = Budget(2, 2)
    assert left(budget, {10: 2}, 10 + MONTH_DAYS - 1) == 0
    assert left(budget, {10: 2}, 10 + MONTH_DAYS) == 2


def test_a_throttle_narrows_the_day_and_leaves_repeats_alone() -> None:
    budgets = Budgets(throttled_per_day=3)
    assert budgets.of(Scope.PEER, throttled=True) == Budget(3, budgets.peer_per_month)
    assert budgets.of(Scope.REPEAT, throttled=True) == budgets.of(Scope.REPEAT)
    assert Budgets(peer_per_day=2, throttled_per_day=3).of(Scope.PEER, throttled=True).per_day == 2


def test_a_day_above_its_month_is_refused() -> None:
    with pytest.raises(ValidationError, match="peer_per_day is above peer_per_month"):
        Budgets(peer_per_day=481)
