"""Asks again whoever did not answer, province by province, until they do or the question's days are over."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from node.cases import ATTEMPT_S
from node.errors import NodeError, StoreError, TrustError
from node.log import log_bug
from node.query import ask_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from node.casebook import CaseBook
    from node.query import Desk

PAUSE_S: Final = 10.0  # at the most between two looks at what is due; a change wakes it sooner
FIRST_POLL_S: Final = 5.0
POLL_S: Final = 900.0  # how soon a quiet federation hears of a new registry, while there are open cases
POLL_DEADLINE_S: Final = 10.0
TIDY_S: Final = 3600.0
BETWEEN_S: Final = 2.0  # after each try at a province: hundreds may wait for it, and caseworkers wait now
DUE_LOOKED_AT: Final = 64  # bounds what is in memory at once, whatever waits in the database

_log = structlog.get_logger(__name__)


class FollowUp:
    """The running node's queue: one try at a time per province and a pause after it; a slow one holds up nobody else.

    resting: provinces that are left alone at this moment. generation: which registry a province would answer from.
    """

    def __init__(
        self,
        desk: Desk,
        book: CaseBook,
        *,
        resting: Callable[[], frozenset[str]],
        generation: Callable[[str], Awaitable[int | None]],
        between_s: float = BETWEEN_S,
    ) -> None:
        self._desk = desk
        self._book = book
        self._resting = resting
        self._generation = generation
        self._between_s = between_s
        self._news = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled. A try under way then is made again by the next start, with the same bytes."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._news.set)

        self._book.on_change = wake
        sides = [asyncio.create_task(each) for each in (self._every(TIDY_S, 0.0, self._tidy), self._poll())]
        try:
            resumed = False
            while True:
                pause_s = PAUSE_S
                try:
                    if not resumed:
                        await asyncio.to_thread(self._book.resume)
                        resumed = True
                    pause_s = await self._look()
                except StoreError as error:
                    _log.error("followup_waits", reason=str(error))
                except Exception as error:  # noqa: BLE001 - the queue must outlive a bug with one question
                    log_bug(error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._news.wait()
                self._news.clear()
        finally:
            self._book.on_change = lambda: None
            tasks = [*sides, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> float:
        """Start what is due; return for how long nothing more will be, in seconds."""
        self._news.clear()
        skip = self._resting() | self._tasks.keys()
        for question_id, code in await asyncio.to_thread(self._book.due, skip, DUE_LOOKED_AT):
            if code not in self._tasks:
                task = self._tasks[code] = asyncio.create_task(self._try_in_turn(question_id, code))
                task.add_done_callback(partial(self._done, code))
        skip = self._resting() | self._tasks.keys()
        due = await asyncio.to_thread(self._book.next_due, skip)
        if due is None:
            return PAUSE_S
        return min(PAUSE_S, max(0.05, (due - self._desk.now()).total_seconds()))

    def _done(self, code: str, _: asyncio.Task[None]) -> None:
        del self._tasks[code]
        self._news.set()

    async def _try_in_turn(self, question_id: bytes, code: str) -> None:
        await self._try(question_id, code)
        await asyncio.sleep(self._between_s * _around_one())

    async def _try(self, question_id: bytes, code: str) -> None:
        """Ask one province once, and record what came of it. Raises nothing."""
        try:
            try:
                attempt = await asyncio.to_thread(self._book.begin, question_id, code)
                if attempt is None:
                    return
                heard, answer = await ask_one(self._desk, code, attempt.question, monotonic() + ATTEMPT_S)
                await asyncio.to_thread(self._book.settle, attempt, heard, answer, self._desk.model)
            except TrustError:
                await asyncio.to_thread(self._book.give_up_unreadable, question_id)
        except StoreError as error:  # what was heard is lost; the same bytes are asked again, and answered the same
            _log.error("followup_not_recorded", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a bug with one question must not end the queue
            log_bug(error, province=code)

    async def _poll(self) -> None:
        await self._every(POLL_S, FIRST_POLL_S, self._look_for_new_registries)

    async def _look_for_new_registries(self) -> None:
        if not await asyncio.to_thread(self._book.has_open):
            return
        members = self._desk.members()
        generations = await asyncio.gather(*(self._generation_of(code) for code in members))
        for code, generation in zip(members, generations, strict=True):
            await asyncio.to_thread(self._book.note_generation, code, generation)
            if generation is not None:
                await asyncio.to_thread(self._book.note_back, code)

    async def _generation_of(self, code: str) -> int | None:
        """Return what a province says of its registry; one that cannot be asked has said nothing."""
        try:
            async with asyncio.timeout(POLL_DEADLINE_S):
                return await self._generation(code)
        except (NodeError, TimeoutError):
            return None

    async def _tidy(self) -> None:
        await asyncio.to_thread(self._book.tidy)

    async def _every(self, pause_s: float, first_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(first_s)
        while True:
            try:
                await work()
            except NodeError as error:
                _log.error("followup_waits", reason=str(error))
            except Exception as error:  # noqa: BLE001 - the queue must outlive it
                log_bug(error)
            await asyncio.sleep(pause_s * _around_one())


def _around_one() -> float:
    """Return a random factor for a pause, so that nodes do not do in step what they all began at once."""
    return random.uniform(0.75, 1.25)  # noqa: S311 - it keeps no secret
