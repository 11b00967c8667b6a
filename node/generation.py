"""Which index answers: follows the `current` link, and closes an old generation when its last search is done."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from matching.errors import MatchingError
from matching.index import EncodedIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matching.keys import FieldKeys
    from node.home import NodeHome

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Generation:
    """One open index. leases: searches that are using it."""

    name: str
    index: EncodedIndex
    leases: int = 0


class Generations:
    """Hands out the current generation, one lease per question; a new one takes over between questions.

    A generation that cannot be opened never takes over: the last good one keeps answering and `problem` says why.
    """

    def __init__(self, home: NodeHome, keys: FieldKeys) -> None:
        self._home = home
        self._keys = keys
        self._lock = threading.Lock()
        self._current: Generation | None = None
        self._refused: str | None = None
        self.problem: str | None = None

    @property
    def current(self) -> Generation | None:
        """The generation that answers now; None before the first import."""
        return self._current

    def open(self) -> None:
        """Open the current generation, if there is one. Raises IndexDamagedError or SchemaMismatchError."""
        with self._lock:
            self._follow()

    def refresh(self) -> None:
        """Follow the link; try again also a generation that could not be opened before."""
        with self._lock:
            self._refused = None
            self._follow_or_keep()

    @contextmanager
    def lease(self) -> Iterator[Generation | None]:
        """Hold the current generation open for one question; None when no registry has been imported yet."""
        with self._lock:
            self._follow_or_keep()
            generation = self._current
            if generation is not None:
                generation.leases += 1
        try:
            yield generation
        finally:
            if generation is not None:
                with self._lock:
                    generation.leases -= 1
                    self._close_if_unused(generation)

    def close(self) -> None:
        """Close the current generation, now or when its last search is done."""
        with self._lock:
            generation, self._current = self._current, None
            if generation is not None:
                self._close_if_unused(generation)

    def _follow_or_keep(self) -> None:
        target = self._target()
        if target == self._refused:
            return
        try:
            self._follow()
        except (MatchingError, OSError) as error:
            self._refused = target
            problem = f"generation {target} cannot be opened: {error}"
            if problem != self.problem:
                self.problem = problem
                _log.error("generation_refused", generation=target, reason=str(error))

    def _follow(self) -> None:
        target = self._target()
        if target is None:
            return
        if self._current is None or target != self._current.name:
            index = EncodedIndex.open(self._home.generations / target, *self._keys.identity, self._keys.check)
            old, self._current = self._current, Generation(target, index)
            _log.info("generation_opened", generation=target, persons=index.size)
            if old is not None:
                self._close_if_unused(old)
        self.problem = self._refused = None

    def _target(self) -> str | None:
        """Return the name the link points at; None without a link."""
        try:
            return self._home.current.readlink().name
        except FileNotFoundError:
            return None

    def _close_if_unused(self, generation: Generation) -> None:
        if generation.leases == 0 and generation is not self._current:
            generation.index.close()
