"""Encoding the registry again into another epoch: what is due, doing it, and how far it came."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from matching.errors import MatchingError
from node.errors import ConfigError, NodeError
from node.files import read_file, write_atomic
from node.importer import import_registry
from node.publishing import number_of, published
from node.registry_source import recall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from matching.index import Manifest
    from matching.keys import FieldKeys
    from node.home import NodeHome
    from node.importer import ImportReport, Progress

MAX_RECORD_BYTES: Final = 64 * 1024
NOTED_EVERY_ROWS: Final = 100_000


@checked(frozen=True, slots=True, config=ConfigDict(strict=True, extra="forbid"))
class Reencoding:
    """The last re-encoding that did not end well, or that is running. done, total: in `unit`, as the import counts."""

    epoch: int
    started_at: AwareDatetime
    pid: int
    rows: int = 0
    done: int = 0
    total: int | None = None
    unit: str = "rows"
    problem: str | None = None
    """Why it stopped; None while it runs, and when it was killed."""


@dataclass(frozen=True, slots=True)
class EpochIndex:
    """The index of one epoch, None where there is none. is_due: it is missing, or older than the last import."""

    epoch: int
    generation: str | None
    manifest: Manifest | None
    is_due: bool


_RECORD: Final = TypeAdapter(Reencoding)


def indexes(home: NodeHome, epochs: Iterable[int]) -> tuple[EpochIndex, ...]:
    """Return how each of these epochs' indexes stands."""
    there = published(home) if home.generations.is_dir() else {}
    try:
        imported = number_of(recall(home).generation)
    except NodeError:
        imported = 0
    found = []
    for epoch in epochs:
        name, manifest = there.get(epoch, (None, None))
        found.append(EpochIndex(epoch, name, manifest, name is None or number_of(name) < imported))
    return tuple(found)


def reencode(
    home: NodeHome, keys: FieldKeys, now: datetime, progress: Callable[[Progress], None] = lambda _: None
) -> ImportReport:
    """Read the registry again from where it was imported, encode it under these keys and publish that epoch's index.

    Raises ConfigError when nobody knows where it came from, and as `open_source` and `import_registry` do; why is also
    kept for `last_reencoding`, until one succeeds.
    """
    record = Reencoding(keys.epoch, now, os.getpid())
    _note(home, record)

    def count(latest: Progress) -> None:
        nonlocal record
        if latest.rows // NOTED_EVERY_ROWS != record.rows // NOTED_EVERY_ROWS:
            record = replace(record, rows=latest.rows, done=latest.done, total=latest.total, unit=latest.unit)
            _note(home, record)
        progress(latest)

    try:
        source = recall(home)
        with source.open() as opened:
            report = import_registry(
                home, keys, opened, source.mapping, now, max_rejects=source.max_rejects, progress=count
            )
    except (NodeError, MatchingError) as error:
        _note(home, replace(record, problem=str(error)))
        raise
    home.reencode_record.unlink(missing_ok=True)
    return report


def last_reencoding(home: NodeHome) -> Reencoding | None:
    """Return the re-encoding that is running, failed or was killed; None when the last one ended well."""
    with suppress(ConfigError, ValidationError):
        return _RECORD.validate_json(read_file(home.reencode_record, limit=MAX_RECORD_BYTES))
    return None


def is_running(home: NodeHome, record: Reencoding) -> bool:
    """Return whether the process that wrote the record is still at it."""
    try:
        os.kill(record.pid, 0)
        descriptor = os.open(home.import_lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _note(home: NodeHome, record: Reencoding) -> None:
    body: dict[str, Any] = _RECORD.dump_python(record, mode="json")
    write_atomic(home.reencode_record, TypeAdapter(dict[str, Any]).dump_json(body), replace=True)
