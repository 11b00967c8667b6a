"""How many questions a member may ask of this node: limits, and the arithmetic of their windows. Pure.

A day is a day of UTC. Every 30 days in a row hold at most `per_month` questions, every day at most `per_day`. The
defaults are derived from 120 clients a month and province: docs/operations.md, "Budgets".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from node.errors import QueryBudgetError

if TYPE_CHECKING:
    from collections.abc import Mapping

MONTH_DAYS: Final = 30
MAX_LIMIT: Final = 1_000_000
_DAY_S: Final = 86_400

Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


class Scope(StrEnum):
    """Whose questions are counted together, always within one peer."""

    PEER = "peer"
    OPERATOR = "operator"
    CASE = "case"
    REPEAT = "repeat"  # what the same peer has asked before, word for word: it tells nothing new about this registry


@dataclass(frozen=True, slots=True)
class Budget:
    """Questions allowed in one scope: on one day, and in any 30 days in a row."""

    per_day: int
    per_month: int


class Budgets(BaseModel):
    """Every budget of a node. `throttled_per_day`: new questions a day of whoever the sweep monitor holds back."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    peer_per_day: Limit = 120
    peer_per_month: Limit = 480
    operator_per_day: Limit = 90
    operator_per_month: Limit = 420
    case_per_day: Limit = 8
    case_per_month: Limit = 16
    repeats_per_day: Limit = 300
    repeats_per_month: Limit = 1_200
    throttled_per_day: Annotated[int, Field(ge=0, le=MAX_LIMIT)] = 5

    @model_validator(mode="after")
    def _check(self) -> Budgets:
        for name in ("peer", "operator", "case", "repeats"):
            if getattr(self, f"{name}_per_day") > getattr(self, f"{name}_per_month"):
                raise ValueError(f"{name}_per_day is above {name}_per_month")
        return self

    def of(self, scope: Scope, *, throttled: bool = False) -> Budget:
        """Return the budget of a scope. A throttle narrows the day; repeats tell nothing new and stay as they are."""
        name = "repeats" if scope is Scope.REPEAT else scope.value
        per_day, per_month = getattr(self, f"{name}_per_day"), getattr(self, f"{name}_per_month")
        if throttled and scope is not Scope.REPEAT:
            return Budget(min(per_day, self.throttled_per_day), per_month)
        return Budget(per_day, per_month)


def day_of(moment: datetime) -> int:
    """Return the number of a moment's day (UTC), counted from 1970-01-01."""
    return int(moment.astimezone(UTC).timestamp() // _DAY_S)


def charged_day(today: int, spent: Mapping[int, int]) -> int:
    """Return the day a question counts for: today, or the newest day already counted, if the clock went back.

    So no clock that moves backwards, and forwards again, gives a day's budget twice.
    """
    return max([today, *spent])


def left(budget: Budget, spent: Mapping[int, int], today: int) -> int:
    """Return how many questions may still be asked. spent: questions by day."""
    day = charged_day(today, spent)
    month = sum(count for each, count in spent.items() if day - MONTH_DAYS < each <= day)
    return max(0, min(budget.per_day - spent.get(day, 0), budget.per_month - month))


def charge(scope: Scope, budget: Budget, spent: Mapping[int, int], today: int) -> int:
    """Return the day to debit one question to. Raises QueryBudgetError when nothing is left."""
    if left(budget, spent, today) < 1:
        raise QueryBudgetError(
            f"the budget of this {scope} is used up",
            hint="`pulang budget show` says whose; `pulang budget release` gives it back",
        )
    return charged_day(today, spent)
