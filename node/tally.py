"""Counts refusals that a flood would otherwise write to audit and log one by one, until the disk is full."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MINUTE_S: Final = 60.0
MAX_LINES: Final = 600  # in the log, a minute, of all refused callers together: at most 300 MB a day
MAX_ROWS: Final = 60  # refusals of one caller with a row of their own, between two drains: one a second

Key = tuple[str, str, str | None]  # caller, outcome, reason


class Tally:
    """Refusals since the last drain. Every one of them counts; only the first of a caller have a row of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: Counter[str] = Counter()
        self._counted: Counter[Key] = Counter()

    def has_room(self, caller: str) -> bool:
        """Whether a refusal of this caller still gets a row of its own; says so MAX_ROWS times."""
        with self._lock:
            self._rows[caller] += 1
            return self._rows[caller] <= MAX_ROWS

    def add(self, caller: str, outcome: str, reason: str | None = None) -> None:
        """Count a refusal. reason: from a fixed list, never a value of the question."""
        with self._lock:
            self._counted[caller, outcome, reason] += 1

    def drain(self) -> Mapping[Key, int]:
        """Return what was counted, and begin anew."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            self._rows.clear()
        return counted

    def put_back(self, counted: Mapping[Key, int]) -> None:
        """Take back what could not be written."""
        with self._lock:
            self._counted.update(counted)


class Sparing:
    """Says which refused calls get a line in the log: so many a minute of one caller, and of all together.

    Whoever keeps an old certificate can call for ever; each call costs it nothing, and a line each would fill the disk.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._lines: Counter[str] = Counter()
        self._unsaid = 0

    def new_minute(self) -> int:
        """Begin another minute if it is time. Returns how many refusals of the one before got no line."""
        if self._clock() - self._began < MINUTE_S:
            return 0
        unsaid, self._unsaid = self._unsaid, 0
        self._began = self._clock()
        self._lines.clear()
        return unsaid

    def has_room(self, caller: str) -> bool:
        """Whether this refusal gets a line."""
        if self._lines[caller] < MAX_ROWS and self._lines.total() < MAX_LINES:
            self._lines[caller] += 1
            return True
        self._unsaid += 1
        return False
