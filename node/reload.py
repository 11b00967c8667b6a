"""A value kept in files: read again when they change, the last good one kept when they cannot be read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from node.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Reloaded(Generic[T]):
    """Credentials or membership of a running node; may be read from any thread.

    what: their name in the log. problem: why the files' present content is not in use, None when it is.
    failures: reloads that failed since the start.
    """

    def __init__(self, what: str, paths: Sequence[Path], load: Callable[[], T]) -> None:
        """Load the value once. Raises whatever `load` raises."""
        self._what = what
        self._paths = tuple(paths)
        self._load = load
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self._value = load()
        self.problem: str | None = None
        self.failures = 0

    def get(self) -> T:
        """Return the newest value that could be loaded."""
        stamps = self._stamps()
        if stamps != self._seen:
            with self._lock:
                if stamps != self._seen:
                    self._reload()
                    self._seen = stamps
        return self._value

    def _reload(self) -> None:
        try:
            self._value = self._load()
        except NodeError as error:
            self.problem = f"{self._what}: {error}"
            self.failures += 1
            _log.error("reload_failed", what=self._what, reason=str(error))
        else:
            self.problem = None
            _log.info("reloaded", what=self._what)

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(stamp, self._paths))


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes whenever the file is replaced or written; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
