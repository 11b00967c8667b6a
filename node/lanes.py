"""Calls of members beside their questions: a few at a time per caller, and who makes very many is slowed down."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from node.errors import AccessDeniedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

AT_ONCE: Final = 4  # of one caller; each may take a thread and the database's one writer
MAX_WAITING: Final = 32  # of one caller, for one of those: bounds the memory that waiting calls hold
QUICK_PER_MINUTE: Final = 600  # of one caller; taking a whole new membership needs some dozens
HELD_S: Final = 0.5  # every further one waits so long first
MINUTE_S: Final = 60.0


class Lanes:
    """One lane per caller, so that none is in another's way. monotonic: seconds of a clock that only goes forward."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seats: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._waiting: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._minute = -1

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Wait for a caller's turn. Raises AccessDeniedError when too many of its calls wait already."""
        if self._waiting[caller] >= MAX_WAITING:
            raise AccessDeniedError("too many calls at once")
        minute = int(self._monotonic() // MINUTE_S)
        if minute != self._minute:
            self._minute = minute
            self._calls.clear()
        self._calls[caller] += 1
        self._waiting[caller] += 1
        try:
            if self._calls[caller] > QUICK_PER_MINUTE:
                await asyncio.sleep(HELD_S)
            await self._seats[caller].acquire()
        finally:
            self._waiting[caller] -= 1
        try:
            yield
        finally:
            self._seats[caller].release()
