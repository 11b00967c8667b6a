"""A few threads that callers share in turn, each at its pace: who asks much waits for itself, and not others for it."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

AT_A_RUN: Final = 120  # pieces of one caller that no pace slows down: a province asks some ten a day
PACE_NS: Final = 200_000_000  # from each further one to the next: a flood must not take the machine from all else

_Result = TypeVar("_Result")


class Turns:
    """Runs work on `threads` threads, one piece per caller in turn; of two and more, a caller never has all of them.

    After AT_A_RUN pieces in a run, one of a caller is begun every PACE_NS (the generic cell rate of ITU-T I.371).
    monotonic_ns: nanoseconds of a clock that only goes forward.
    """

    def __init__(self, threads: int, name: str, *, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._due: defaultdict[str, int] = defaultdict(int)  # when each would be through with its pieces at that pace
        self._most = max(1, threads - 1)  # of one caller: the next one need not wait until its pieces are done
        self._waiting: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()  # whose turn it is stands first
        self._running: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, caller: str, work: Callable[[], _Result]) -> Future[_Result]:
        """Have a caller's work done when it is its turn. Raises RuntimeError after `close`."""
        future: Future[_Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is whoever waits for it that must learn it
                future.set_exception(error)

        with self._changed:
            if self._closed:
                raise RuntimeError("closed")
            self._waiting.setdefault(caller, deque()).append(run)
            self._changed.notify()
        future.add_done_callback(lambda done: self._drop(caller, run) if done.cancelled() else None)
        return future

    def _drop(self, caller: str, run: Callable[[], None]) -> None:
        """Forget a piece that nobody waits for: it would stay for as long as its caller's pace makes it."""
        with self._changed:
            pieces = self._waiting.get(caller)
            if pieces is None or run not in pieces:  # it has been taken already
                return
            pieces.remove(run)
            if not pieces:
                del self._waiting[caller]
            self._changed.notify_all()

    def close(self) -> None:
        """Do what was handed in, then end. Returns when the last thread has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            caller, run = taken
            try:
                run()
            finally:
                del run, taken  # or an idle thread would hold the last question and its answer
                with self._changed:
                    self._running[caller] -= 1
                    self._changed.notify_all()

    def _take(self) -> tuple[str, Callable[[], None]] | None:
        """Wait for work and take it; None when there is no more and will be none."""
        with self._changed:
            while True:
                now = self._monotonic_ns()
                free = [each for each in self._waiting if self._running[each] < self._most]
                caller = next((each for each in free if not self._pause_ns(each, now)), None)
                if caller is not None:
                    break
                if self._closed and not self._waiting:
                    return None
                pause_ns = min((self._pause_ns(each, now) for each in free), default=None)
                self._changed.wait(None if pause_ns is None else pause_ns / 1e9)
            self._due[caller] = max(now, self._due[caller]) + PACE_NS
            pieces = self._waiting[caller]
            run = pieces.popleft()
            if pieces:
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
            self._running[caller] += 1
            return caller, run

    def _pause_ns(self, caller: str, now: int) -> int:
        """Return how long a caller waits for its next piece; nobody does once the end has come."""
        return 0 if self._closed else max(0, self._due[caller] - now - (AT_A_RUN - 1) * PACE_NS)
