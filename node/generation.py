"""Which index answers, epoch by epoch: follows the links, closes an old generation when its last search is done."""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from matching.at_rest import KEY_BYTES, AtRestKey
from matching.errors import MatchingError, SchemaError, SchemaMismatchError
from matching.index import EncodedIndex, Manifest
from matching.schema import describe
from node.errors import ConfigError
from node.files import make_private_folder, read_private, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from matching.keys import FieldKeys
    from node.home import NodeHome

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Generation:
    """One open index. leases: searches that are using it."""

    name: str
    index: EncodedIndex
    leases: int = 0

    @property
    def number(self) -> int | None:
        """What other provinces are told of it, so that they see when it changes; None for a name that is no number."""
        digits = self.name.removeprefix("g")
        return int(digits) if digits.isdecimal() else None


def index_key(home: NodeHome) -> AtRestKey:
    """Return the key this node's indexes are sealed with; made when the first one is. Raises ConfigError or TrustError.

    A lost key costs an import: nothing but the registry's own encodings is sealed with it.
    """
    path = home.index_secret
    if not path.exists():
        make_private_folder(path.parent)
        with suppress(ConfigError):  # an import and a server may both be the first
            write_atomic(path, secrets.token_hex(KEY_BYTES).encode("ascii") + b"\n")
    try:
        return AtRestKey(bytes.fromhex(read_private(path, limit=256).decode("ascii", errors="replace")))
    except (ValueError, SchemaError):
        raise ConfigError(
            f"{path} is not {KEY_BYTES} bytes in hexadecimal",
            hint="restore it; or remove it and import the registry again",
        ) from None


class Generations:
    """Hands out each epoch's generation, one lease per question; a new one takes over between questions.

    `current` is the active epoch's, `current-e<n>` that of another epoch; what epoch a generation is of stands in its
    manifest, so that no order in which links are replaced can mislead. A generation that cannot be opened never takes
    over: the last good one keeps answering and `problem` says why.
    """

    def __init__(self, home: NodeHome, keys: Callable[[], Mapping[int, FieldKeys]]) -> None:
        """keys: gives the keys of every epoch that may be answered, the one that is asked in first."""
        self._home = home
        self._keys = keys
        self._lock = threading.Lock()
        self._by_epoch: dict[int, Generation] = {}
        self._seen: object = None
        self.problem: str | None = None

    @property
    def current(self) -> Generation | None:
        """The generation of the first epoch that has one; None before the first import."""
        return next((self._by_epoch[epoch] for epoch in self._keys() if epoch in self._by_epoch), None)

    @property
    def epochs(self) -> frozenset[int]:
        """The epochs a question can be answered in now."""
        with self._lock:
            self._follow_or_keep()
            return frozenset(self._by_epoch)

    def open(self) -> None:
        """Open the generations there are. Raises IndexDamagedError or SchemaMismatchError."""
        with self._lock:
            failure = self._follow()
        if failure is not None:
            raise failure[1]

    def refresh(self) -> None:
        """Follow the links; try again also a generation that could not be opened before."""
        with self._lock:
            self._seen = None
            self._follow_or_keep()

    @contextmanager
    def lease(self, epoch: int | None = None) -> Iterator[Generation | None]:
        """Hold an epoch's generation open for one question; None when it has none. Without an epoch: the current."""
        with self._lock:
            self._follow_or_keep()
            generation = self.current if epoch is None else self._by_epoch.get(epoch)
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
        """Close every generation, now or when its last search is done."""
        with self._lock:
            generations, self._by_epoch = list(self._by_epoch.values()), {}
            for generation in generations:
                self._close_if_unused(generation)

    def _follow_or_keep(self) -> None:
        if self._state() == self._seen:
            return
        failure = self._follow()
        problem = f"generation {failure[0]} cannot be opened: {failure[1]}" if failure else None
        if failure is not None and problem != self.problem:
            _log.error("generation_refused", generation=failure[0], reason=str(failure[1]))
        self.problem = problem

    def _state(self) -> object:
        """Return what changes whenever another generation, or another epoch, is to answer."""
        keys = self._keys()
        return linked(self._home, keys), [(epoch, each.check) for epoch, each in keys.items()]

    def _follow(self) -> tuple[str, MatchingError | OSError] | None:
        """Make every epoch's published generation answer; return one that cannot be used, and why."""
        self._seen = self._state()
        keys = self._keys()
        at_rest = index_key(self._home)
        failure: tuple[str, MatchingError | OSError] | None = None
        published: dict[int, str] = {}
        for name in linked(self._home, keys):
            try:
                epoch = Manifest.read(self._home.generations / name, at_rest).epoch
                if epoch in published:
                    continue
                published[epoch] = name
                known = self._by_epoch.get(epoch)
                if epoch not in keys or (known is not None and known.name == name):
                    continue
                index = EncodedIndex.open(
                    self._home.generations / name, *keys[epoch].identity, keys[epoch].check, at_rest
                )
            except (MatchingError, OSError) as error:
                failure = name, error
                continue
            _log.info("generation_opened", generation=name, epoch=epoch, persons=index.size)
            self._take_over(epoch, Generation(name, index))
        for epoch in set(self._by_epoch) - set(keys):
            self._take_over(epoch, None)
        if failure is None and published and not self._by_epoch:
            epoch, name = next(iter(published.items()))
            asked_in = next(iter(keys.values()))
            theirs = describe(bytes.fromhex(Manifest.read(self._home.generations / name, at_rest).fingerprint), epoch)
            failure = name, SchemaMismatchError(ours=describe(*asked_in.identity), theirs=theirs)
        return failure

    def _take_over(self, epoch: int, generation: Generation | None) -> None:
        old = self._by_epoch.pop(epoch, None)
        if generation is not None:
            self._by_epoch[epoch] = generation
        if old is not None:
            self._close_if_unused(old)

    def _close_if_unused(self, generation: Generation) -> None:
        if generation.leases == 0 and generation not in self._by_epoch.values():
            generation.index.close()
            _log.info("generation_closed", generation=generation.name)


def linked(home: NodeHome, epochs: Iterable[int]) -> tuple[str, ...]:
    """Return the names of the generations that links point at, each once: `current` first, it wins."""
    names = []
    for link in (home.current, *map(home.current_of, epochs)):
        try:
            names.append(link.readlink().name)
        except OSError:
            continue
    return tuple(dict.fromkeys(names))
