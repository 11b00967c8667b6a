"""The node's memory, as the rest of the node sees it: plain records in, plain records out."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select, update

from node.errors import StoreError
from node.handles import why_closed
from node.store import budgets as counting
from node.store import log, reviews, tables
from node.store.audit import AuditLog
from node.store.cases import Cases, add_question, begin_attempt, conclude_question
from node.store.dump import read_rows, write_rows
from node.store.engine import NO_TRANSACTION, at_one_moment, make_engine, parse_url, place_of, sqlite_path
from node.store.faults import SharingError, fault, translated
from node.store.records import PENDING, TO_ANSWER, Direction, HandleRecord, Opened
from node.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import URL, Connection, Engine, Row

    from node.budget import Budgets
    from node.store.records import (
        Admitted,
        AttemptRecord,
        AuditEntry,
        Claim,
        Opening,
        QuestionOutcome,
        QuestionRecord,
        Reply,
        Sighting,
        Spending,
        Throttle,
    )

WAIT_S: Final = 5.0  # a writer waits this long for another; well inside the 60 s a question may take
INTERRUPTED: Final = "interrupted"  # outcome of a question whose node died while it was being answered
_ADD_HANDLES: Final = insert(tables.handles)


def open_store(url: str, *, wait_s: float = WAIT_S, serving: bool = False) -> Store:
    """Open the database, bringing it to the present schema version first; safe when several processes open at once.

    SQLite keeps a file beside the database by which processes share it. When a full disk has no room for it, a
    database that nobody uses can still be read, by one process alone; one that is to be `serving` is refused then.
    Raises ConfigError for a URL that cannot be used; StoreError when the database is gone, locked, read-only, full,
    of a newer version, or not a Pulang node's.
    """
    parsed = parse_url(url)
    try:
        return _open(parsed, wait_s=wait_s)
    except SharingError:
        if serving:
            raise
    return _open(parsed, wait_s=wait_s, alone=True)


def _open(url: URL, *, wait_s: float, alone: bool = False) -> Store:
    place, path = place_of(url), sqlite_path(url)
    engine = make_engine(url, wait_s=wait_s, alone=alone)
    try:
        with translated(place):
            migrate(engine, path, place, wait_s=wait_s)
        return Store(engine, path, place)
    except BaseException:
        engine.dispose()
        raise


def sqlite_folder(url: str) -> Path | None:
    """Return the folder a SQLite database writes to, None for PostgreSQL. Raises ConfigError as open_store does."""
    path = sqlite_path(parse_url(url))
    return path.parent if path else None


class Store:
    """An open database. Every method may be called from any thread; what it wrote is durable when it returns."""

    def __init__(self, engine: Engine, path: Path | None, place: str) -> None:
        self._engine = engine
        self._path = path
        self._place = place
        self._identity = _identity(path)
        self.reviews = reviews.ReviewQueue(self._write, self._read, log.append)
        self.cases = Cases(self._write, self._read)
        self.log = AuditLog(self._write, self._read)

    def record_pending(self, entry: AuditEntry) -> int:
        """Append a PENDING row and return its number, which the outcome's row will name in `concerns`.

        Call it before the answer is computed. Raises StoreError when it could not be made durable; then nothing may be
        computed. A process that dies in between leaves the row for `resolve_interrupted`.
        """
        with self._write() as connection:
            (number,) = log.append(connection, [entry])
        return number

    def erase_audit(self, before: datetime, record: Callable[[int, int], AuditEntry]) -> int:
        """Erase values and salts as AuditLog.erase_before does, from SQLite's write-ahead log too; return how many."""
        count = self.log.erase_before(before, record)
        if count and self._path is not None:
            with translated(self._place), self._engine.connect().execution_options(**NO_TRANSACTION) as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    def resolve_interrupted(self, now: datetime) -> int:
        """Give every PENDING row without an outcome the outcome `interrupted`; return how many there were.

        The same bytes may be asked again at once: whoever was computing their answer is gone. Call it when a node
        starts to serve, never while one does.
        """
        rows = tables.audit.alias()
        resolved = select(rows.c.number).where(
            rows.c.concerns == tables.audit.c.number, rows.c.direction == Direction.ANSWERED
        )
        query = (
            log.select_entries()
            .where(tables.audit.c.outcome == PENDING, ~resolved.exists())
            .order_by(tables.audit.c.number)
        )
        with self._write() as connection:
            left = [log.entry_of(row) for row in connection.execute(query).mappings()]
            outcomes = [replace(each, at=now, outcome=INTERRUPTED, concerns=each.number) for each in left]
            log.append(connection, outcomes)
            counting.end_leases(connection, now)
        return len(left)

    def admit(self, claim: Claim, budgets: Budgets, pending: AuditEntry | None = None) -> Admitted:
        """Decide about a question before it is computed, and debit its budgets; exact, whoever else asks meanwhile.

        pending: its PENDING row, appended in the same transaction if it is to be answered now.
        Raises QueryBudgetError when a budget is used up,
        StoreError when it could not be made durable; then nothing is written.
        """
        with self._write() as connection:
            admitted = counting.admit(connection, claim, budgets)
            if pending is None or admitted.admission not in TO_ANSWER:
                return admitted
            (number,) = log.append(connection, [pending])
        return replace(admitted, number=number)

    def record_answer(
        self,
        entry: AuditEntry,
        handles: Sequence[HandleRecord] = (),
        *,
        reply: Reply | None = None,
        sighting: Sighting | None = None,
    ) -> None:
        """Append the outcome's row together with the handles given out, in one transaction: all of it or nothing.

        reply: the answer of an admitted question, kept for its repetition. sighting: for the sweep monitor.
        Call it before the answer leaves. Raises StoreError when it could not be made durable; then nothing may leave.
        """
        with self._write() as connection:
            log.append(connection, [entry])
            if handles:  # SQLAlchemy would take an empty list for one row of defaults
                connection.execute(_ADD_HANDLES, [_handle_row(handle) for handle in handles])
                reviews.queue(connection, entry, handles)
            if reply is not None:
                counting.keep_reply(connection, reply, entry.at)
            if sighting is not None:
                counting.remember_sighting(connection, sighting)

    def forget(self, now: datetime) -> None:
        """Forget what is past its time: expired handles, kept answers, old nonces, contents, spendings, review items.

        A serving node calls it every minute; apart from answers, which are quicker without.
        """
        with self._write() as connection:
            connection.execute(delete(tables.handles).where(tables.handles.c.expires_at <= now))
            counting.forget(connection, now)
            reviews.forget(connection, now)

    def spent(self, peer: str | None = None, *, scope: str | None = None) -> tuple[Spending, ...]:
        """Return what each holder of a budget has asked; of all peers or of one, in every scope or in one."""
        with self._read() as connection:
            return tuple(counting.spent(connection, peer, scope))

    def give_back(self, peer: str, entry: AuditEntry, *, scope: str | None = None, holder: str | None = None) -> int:
        """Set a peer's counters, or one holder's, to nothing, with an audit row. Returns the questions given back."""
        with self._write() as connection:
            given = counting.give_back(connection, peer, scope, holder)
            log.append(connection, [entry])
            return given

    def sightings_since(self, peer: str, since: int) -> tuple[int, int, tuple[Sighting, ...]]:
        """Return the lowest number of a peer's sightings, how many there are, and those above `since`, oldest first."""
        with self._read() as connection:
            first, count = counting.extent(connection, peer)
            return first, count, tuple(counting.sightings_of(connection, peer, since))

    def throttles(self, peer: str | None = None) -> tuple[Throttle, ...]:
        """Return who is held back now; of all peers, or of one."""
        with self._read() as connection:
            return tuple(counting.active_throttles(connection, peer))

    def throttle(self, alarm: Throttle, entry: AuditEntry) -> bool:
        """Hold a peer or an operator back, with an audit row; False when it is held back for this already."""
        with self._write() as connection:
            if not counting.throttle(connection, alarm):
                return False
            log.append(connection, [entry])
            return True

    def release(self, peer: str, entry: AuditEntry, *, by: str, operator: bytes | None = None) -> int:
        """End a peer's throttles, or one operator's, with an audit row. Returns how many there were."""
        with self._write() as connection:
            ended = counting.release(connection, peer, operator, by, entry.at)
            if ended:
                log.append(connection, [entry])
            return ended

    def open_handle(self, opening: Opening, entry: Callable[[Opened], AuditEntry]) -> Opened:
        """Look a handle up for a person, once; whatever comes of it is audited in the same transaction.

        entry: makes the audit row of what came of it.
        """
        columns = tables.handles.c
        mine = columns.handle_sha256 == _sha256(opening.handle)
        with self._write() as connection:
            row = connection.execute(select(tables.handles).where(mine).with_for_update()).one_or_none()
            record = None if row is None else _handle_record(opening.handle, row)
            opened = Opened(record, why_closed(record, opening))
            if opened.closed is None:
                values = {"opened_at": opening.at, "opened_by": opening.operator}
                connection.execute(update(tables.handles).where(mine).values(**values))
            log.append(connection, [entry(opened)])
        return opened

    def record_question(self, question: QuestionRecord, entries: Sequence[AuditEntry]) -> None:
        """Write down a question about to be asked, with an audit row for every province it goes to.

        Call it before the question is sent: one nobody can account for must not be asked.
        """
        with self._write() as connection:
            add_question(connection, question)
            log.append(connection, entries)

    def record_outcome(self, outcome: QuestionOutcome, entries: Sequence[AuditEntry]) -> None:
        """Write down what came of a recorded question, with an audit row for every province's answer or silence."""
        with self._write() as connection:
            conclude_question(connection, outcome)
            log.append(connection, entries)

    def record_events(self, entries: Sequence[AuditEntry]) -> None:
        """Append audit rows that belong to no answer and to no new question, all of them or none."""
        with self._write() as connection:
            log.append(connection, entries)

    def record_attempt(
        self, question_id: bytes, attempt: AttemptRecord, seen_next_try_at: datetime, entries: Sequence[AuditEntry]
    ) -> bool:
        """Write down one more try at one province, before it is sent, with its audit row.

        False, and nothing written, when the case was closed or somebody else took this try in between.
        """
        with self._write() as connection:
            taken = begin_attempt(connection, question_id, attempt, seen_next_try_at)
            if taken:
                log.append(connection, entries)
        return taken

    def resolve_handle(self, handle: bytes, now: datetime) -> HandleRecord | None:
        """Return what a handle stands for; None when it was never given out, or has expired."""
        columns = tables.handles.c
        with self._read() as connection:
            found = connection.execute(
                select(tables.handles).where(columns.handle_sha256 == _sha256(handle), columns.expires_at > now)
            ).one_or_none()
        if found is None:
            return None
        return _handle_record(handle, found)

    def audit_entries(self, since: int = 0, limit: int = 1000) -> tuple[AuditEntry, ...]:
        """Return up to `limit` audit rows whose number is above `since`, oldest first."""
        number = tables.audit.c.number
        query = log.select_entries().where(number > since).order_by(number).limit(limit)
        with self._read() as connection:
            return tuple(log.entry_of(row) for row in connection.execute(query).mappings())

    def dump(self) -> Iterator[bytes]:
        """Yield the whole database, as of one moment, in the lines of node/store/dump.py."""
        with translated(self._place), self._engine.connect() as connection:
            yield from write_rows(at_one_moment(connection))

    def load(self, lines: Iterable[bytes]) -> int:
        """Fill a new database from such lines, all or nothing; returns how many rows. Raises as read_rows does."""
        with self._write() as connection:
            return read_rows(connection, lines)

    def ping(self) -> None:
        """Return when an answer could be recorded now; raise the StoreError that recording it would raise."""
        with self._write() as connection:
            # SQLite finds out at BEGIN IMMEDIATE; PostgreSQL refuses the FOR UPDATE where it would refuse a write.
            connection.execute(select(tables.handles.c.peer).limit(0).with_for_update())

    def close(self) -> None:
        """Let go of every connection. The store is not used afterwards."""
        self._engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._whole_log(), translated(self._place), self._engine.begin() as connection:
            yield connection
            self._require_same_file()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._whole_log(), translated(self._place), self._engine.connect() as connection:
            yield at_one_moment(connection)
            self._require_same_file()

    @contextmanager
    def _whole_log(self) -> Iterator[None]:
        try:
            yield
        except log.LogDamagedError as error:
            raise StoreError(
                f"the audit log in the database {self._place} has been changed: {error}",
                hint="`pulang audit verify` names the first bad row; nothing is answered until the log is whole",
            ) from None

    def _require_same_file(self) -> None:
        # SQLite goes on writing to a deleted or replaced file without complaint: rows committed to nowhere.
        if self._identity is not None and _identity(self._path) != self._identity:
            raise fault("gone", self._place)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Return device and inode of the SQLite file; (0, 0) when it is not there, None for PostgreSQL."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _handle_row(record: HandleRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in HandleRecord.__slots__ if name not in {"handle", "review"}}
    row["handle_sha256"] = _sha256(record.handle)
    return row


def _handle_record(handle: bytes, row: Row[Any]) -> HandleRecord:
    values = {key: value for key, value in row._mapping.items() if key != "handle_sha256"}  # noqa: SLF001
    return HandleRecord(handle=handle, **values)


def _sha256(handle: bytes) -> bytes:
    return hashlib.sha256(handle).digest()
