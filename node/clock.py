"""How far this machine's clock stands from other provinces': measured at every exchange, judged by a majority."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from node.messages import MAX_CLOCK_SKEW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

WARN_S: Final = 30.0
REFUSE_S: Final = MAX_CLOCK_SKEW.total_seconds()
FRESH_S: Final = 300.0  # of what was measured longer ago nobody knows whether it still holds
LEAST_TO_REFUSE: Final = 2  # one peer alone must not be able to close a node by telling it a wrong time


@dataclass(frozen=True, slots=True)
class Offset:
    """A peer's clock less ours, in seconds, and how far that may be wrong: half of what the exchange took."""

    seconds: float
    within_s: float

    def is_beyond(self, limit_s: float) -> bool:
        """Whether the clocks differ by more than `limit_s`, however the exchange went."""
        return abs(self.seconds) - self.within_s > limit_s

    def __str__(self) -> str:
        way = "ahead of" if self.seconds > 0 else "behind"
        return f"{abs(self.seconds):.0f} s {way} ours"


def offset_of(theirs: datetime, sent: datetime, received: datetime) -> Offset:
    """Return a peer's offset. theirs: its clock when it answered; sent, received: ours. Source: RFC 5905, 8, halved."""
    took = (received - sent).total_seconds()
    return Offset((theirs - sent).total_seconds() - took / 2, abs(took) / 2)


class ClockWatch:
    """The offsets of all peers heard lately; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: dict[str, tuple[float, Offset]] = {}

    def note(self, code: str, offset: Offset) -> None:
        """Take in what was just measured at a peer."""
        with self._lock:
            self._offsets[code] = (time.monotonic(), offset)

    def offsets(self) -> Mapping[str, Offset]:
        """Return the offset of every peer heard in the last minutes."""
        oldest = time.monotonic() - FRESH_S
        with self._lock:
            return {code: offset for code, (at, offset) in sorted(self._offsets.items()) if at >= oldest}

    def problem(self) -> str | None:
        """Return why no date this node judges by can be relied on, None when it can."""
        offsets = self.offsets()
        return _own_fault(offsets, REFUSE_S) if len(offsets) >= LEAST_TO_REFUSE else None

    def note_for_admin(self) -> str | None:
        """Return what somebody should look at before it becomes a problem: our clock, or single others'."""
        offsets = self.offsets()
        if (own := _own_fault(offsets, WARN_S)) is not None:
            return own
        others = [f"province {code}: {offset}" for code, offset in offsets.items() if offset.is_beyond(WARN_S)]
        return f"clocks of others differ: {'; '.join(others)}" if others else None


def _own_fault(offsets: Mapping[str, Offset], limit_s: float) -> str | None:
    """Say that our clock is off if more than half of all peers find it so, on the same side."""
    beyond = [offset.seconds for offset in offsets.values() if offset.is_beyond(limit_s)]
    for side in (1, -1):
        found = [seconds for seconds in beyond if seconds * side > 0]
        if len(found) * 2 > len(offsets):
            way = "behind" if side > 0 else "ahead of"
            return (
                f"this machine's clock is {abs(statistics.median(found)):.0f} s {way} those of {len(found)} of "
                f"{len(offsets)} provinces: set it (NTP)"
            )
    return None
