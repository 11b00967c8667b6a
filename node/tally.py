"""Counts refusals that a flood would otherwise write to the audit row by row, until its disk is full."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

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
