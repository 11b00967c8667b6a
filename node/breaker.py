"""A circuit breaker: whoever fails several times in a row is left alone for a while, then tried by one call only."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES_TO_OPEN: Final = 3  # in a row: one lost packet must not shut a province out
FIRST_REST_S: Final = 5.0
LONGEST_REST_S: Final = 30.0  # a province that comes back is asked again within half a minute
_NO_PROBE: Final = 0


class BreakerState(StrEnum):
    """CLOSED lets every call through, OPEN none, HALF_OPEN one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A breaker as an admin reads it. failures: in a row. rest_s: until the next probe is let through."""

    state: BreakerState
    failures: int
    rest_s: float


class Breaker:
    """Watches the calls to one peer. Times are seconds of a monotonic clock; knows no clock itself.

    Every call that `admit` let through ends in exactly one of `succeeded`, `failed` and `abandoned`.
    chance: uniform on [0, 1); spreads the probes of nodes that lost the same peer at the same moment.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0
        self._resting_until = 0.0
        self._open = False
        self._probes = 0
        self._probe = _NO_PROBE  # ticket of the one under way

    def rest_s(self, now_s: float) -> float:
        """Return how long to wait before a call could be let through; 0 when it may be tried now."""
        return max(0.0, self._resting_until - now_s) if self._open else 0.0

    def admit(self, now_s: float) -> int | None:
        """Return the ticket of a call that may go out now, None when it may not; half open, the first is the probe."""
        if not self._open:
            return _NO_PROBE
        if self._probe or now_s < self._resting_until:
            return None
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def succeeded(self) -> None:
        """Note that the peer answered, whatever it said: all is well again."""
        self._failures = 0
        self._open = False
        self._probe = _NO_PROBE

    def failed(self, ticket: int, now_s: float) -> None:
        """Note that the peer could not be reached, or did not answer in time."""
        self._failures += 1
        if self._open and (ticket == _NO_PROBE or ticket != self._probe):
            return  # it went out before the breaker opened: nothing new
        if self._failures >= FAILURES_TO_OPEN:
            longest = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(self._failures - FAILURES_TO_OPEN, 16))
            self._resting_until = now_s + longest * (0.5 + self._chance() / 2)
            self._open = True
        self._probe = _NO_PROBE

    def abandoned(self, ticket: int) -> None:
        """Note that we hung up ourselves before anything could be learnt."""
        if ticket == self._probe:
            self._probe = _NO_PROBE

    def view(self, now_s: float) -> BreakerView:
        """Return the state for people to read."""
        if not self._open:
            state = BreakerState.CLOSED
        elif self.rest_s(now_s) > 0:
            state = BreakerState.OPEN
        else:
            state = BreakerState.HALF_OPEN
        return BreakerView(state, self._failures, self.rest_s(now_s))
