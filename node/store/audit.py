"""The audit log for those who keep it: heads, proofs, rows, checkpoints, and other provinces' logs witnessed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, update

from node import merkle
from node.errors import LogRowError
from node.store import log
from node.store.records import (
    CheckpointRecord,
    CosignatureRecord,
    Direction,
    Fork,
    LogRow,
    WitnessedHead,
)
from node.store.tables import (
    audit,
    audit_checkpoints,
    audit_cosignatures,
    audit_erasable,
    audit_forks,
    audit_nodes,
    audit_witnessed,
    handles,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, RowMapping, Select

    from node.store.records import AuditEntry

    Transaction = Callable[[], AbstractContextManager[Connection]]
    # What a witness decides from the head it has seen: the head to keep now, or the evidence against it, or neither.
    Judgement = Callable[[WitnessedHead | None, int], WitnessedHead | Fork | None]

PAGE: Final = 1000  # rows read at once: a few hundred kilobytes
MAX_FORKS: Final = 100  # pieces of evidence kept against one province: a liar must not fill our disk
WITNESS_LOCK: Final = 0x50555749544E  # "PUWITN": any number of our own


class AuditLog:
    """The log of an open Store. Every method may be called from any thread and raises StoreError."""

    def __init__(self, write: Transaction, read: Transaction) -> None:
        self._write = write
        self._read = read

    def head(self) -> tuple[int, bytes]:
        """Return size and root of the log as it is now."""
        with self._read() as connection:
            size, _ = log.sizes(connection)
            return size, merkle.root(size, _reader(connection))

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """Return the proof that the log's first `size` rows continue its first `old_size`."""
        with self._read() as connection:
            return merkle.consistency_proof(old_size, size, _reader(connection)) if old_size else []

    def rows(
        self,
        *,
        case: str | None = None,
        peer: str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> Iterator[LogRow]:
        """Yield the rows of one case, with one peer, from `after` on, before `before`: in order, a page at a time.

        Raises LogRowError at the first row that holds what no node has written.
        """
        wanted = []
        if case is not None:
            wanted.append(audit_erasable.c.case_reference == case)
        if peer is not None:
            wanted.append(audit.c.peer == peer)
        if after is not None:
            wanted.append(audit.c.at >= after)
        if before is not None:
            wanted.append(audit.c.at < before)
        since = 0
        while page := self._page(since, wanted):
            yield from page
            assert page[-1].entry.number is not None
            since = page[-1].entry.number

    def nodes(self, positions: Sequence[int]) -> dict[int, bytes]:
        """Return the stored nodes at these positions, as far as they are there."""
        wanted = select(audit_nodes).where(audit_nodes.c.position.in_(positions))
        with self._read() as connection:
            return {row.position: row.hash for row in connection.execute(wanted)}

    def counts(self) -> tuple[int, int, int]:
        """Return how many rows, tree nodes, and erasable halves without a row there are."""
        numbers = select(audit.c.number)
        with self._read() as connection:
            rows, nodes = (
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (audit, audit_nodes)
            )
            orphans = connection.execute(
                select(func.count()).select_from(audit_erasable).where(audit_erasable.c.number.not_in(numbers))
            ).scalar_one()
        return rows, nodes, orphans

    def handles_given_to(self, peer: str, nonces: Sequence[bytes]) -> list[tuple[bytes, str, str, datetime]]:
        """Return (nonce of the question, record id, generation, until when) of the handles a peer still holds."""
        columns = handles.c
        query = select(columns.question_nonce, columns.record_id, columns.generation, columns.expires_at).where(
            columns.peer == peer, columns.question_nonce.in_(nonces)
        )
        with self._read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    # --- this node's checkpoints ---

    def add_checkpoint(self, record: CheckpointRecord) -> None:
        """Keep a signed head."""
        with self._write() as connection:
            connection.execute(insert(audit_checkpoints), [asdict(record)])

    def checkpoints(self) -> list[CheckpointRecord]:
        """Return every checkpoint, in order of size and time."""
        columns = audit_checkpoints.c
        with self._read() as connection:
            found = connection.execute(select(audit_checkpoints).order_by(columns.size, columns.at)).mappings()
            return [CheckpointRecord(**row) for row in found]

    def newest_checkpoint(self, log_key: bytes) -> CheckpointRecord | None:
        """Return the last head signed with a key, None before the first."""
        columns = audit_checkpoints.c
        newest = select(audit_checkpoints).where(columns.log_key == log_key).order_by(columns.size.desc()).limit(1)
        with self._read() as connection:
            row = connection.execute(newest).mappings().one_or_none()
        return None if row is None else CheckpointRecord(**row)

    def add_cosignature(self, record: CosignatureRecord) -> None:
        """Keep a witness's signature; one that is here already stays as it is."""
        columns = audit_cosignatures.c
        known = select(columns.size).where(
            columns.log_key == record.log_key, columns.size == record.size, columns.witness == record.witness
        )
        with self._write() as connection:
            if connection.execute(known).one_or_none() is None:
                connection.execute(insert(audit_cosignatures), [asdict(record)])

    def cosignatures(self) -> list[CosignatureRecord]:
        """Return every cosignature, in order of size."""
        columns = audit_cosignatures.c
        with self._read() as connection:
            found = connection.execute(select(audit_cosignatures).order_by(columns.size, columns.witness)).mappings()
            return [CosignatureRecord(**row) for row in found]

    def cosigned(self, log_key: bytes) -> dict[str, CosignatureRecord]:
        """Return the newest cosignature of each witness under a key's checkpoints."""
        columns = audit_cosignatures.c
        newest = (
            select(columns.witness, func.max(columns.size).label("size"))
            .where(columns.log_key == log_key)
            .group_by(columns.witness)
            .subquery()
        )
        query = select(audit_cosignatures).join(
            newest, (columns.witness == newest.c.witness) & (columns.size == newest.c.size)
        )
        with self._read() as connection:
            found = connection.execute(query.where(columns.log_key == log_key)).mappings()
            return {row["witness"]: CosignatureRecord(**row) for row in found}

    # --- other provinces' logs ---

    def witness(self, province: str, log_key: bytes, judge: Judgement) -> WitnessedHead | Fork | None:
        """Show `judge` the head seen last of a log, and how many logs its province has; keep what it decides.

        One judgement at a time, durable when this returns: sign only then.
        """
        columns = audit_witnessed.c
        with self._write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(WITNESS_LOCK)))
            rows = connection.execute(select(audit_witnessed).where(columns.province == province)).mappings().all()
            seen = next((WitnessedHead(**row) for row in rows if row["log_key"] == log_key), None)
            decided = judge(seen, len(rows))
            if isinstance(decided, Fork):
                _keep_fork(connection, decided)
            elif decided is not None and seen is None:
                connection.execute(insert(audit_witnessed), [asdict(decided)])
            elif decided is not None:
                same = (columns.province == province) & (columns.log_key == log_key)
                connection.execute(update(audit_witnessed).where(same).values(asdict(decided)))
        return decided

    def witnessed(self) -> list[WitnessedHead]:
        """Return the newest head of every log this node has cosigned."""
        columns = audit_witnessed.c
        with self._read() as connection:
            found = connection.execute(select(audit_witnessed).order_by(columns.province, columns.at)).mappings()
            return [WitnessedHead(**row) for row in found]

    def forks(self) -> list[Fork]:
        """Return the evidence against other provinces' logs."""
        with self._read() as connection:
            found = connection.execute(select(audit_forks).order_by(audit_forks.c.at)).mappings()
            return [Fork(**{name: row[name] for name in Fork.__slots__}) for row in found]

    # --- retention ---

    def erasable_before(self, moment: datetime) -> tuple[int, int]:
        """Return how many rows older than `moment` still have their erasable half, and the highest of their numbers."""
        with self._read() as connection:
            return _erasable(connection, moment)

    def erase_before(self, moment: datetime, record: Callable[[int, int], AuditEntry]) -> int:
        """Delete values and salts of every row older than `moment`; return how many rows that were.

        record: makes the audit's row of it from how many and up to which number; one transaction for both.
        Rows about the node's own log keep their half: they say what was erased.
        """
        with self._write() as connection:
            count, last = _erasable(connection, moment)
            if count:
                doomed = select(audit.c.number).where(audit.c.at < moment, audit.c.direction != Direction.OWN)
                connection.execute(delete(audit_erasable).where(audit_erasable.c.number.in_(doomed)))
                log.append(connection, [record(count, last)])
        return count

    def _page(self, since: int, wanted: Sequence[ColumnElement[bool]]) -> list[LogRow]:
        query = log.select_entries().where(audit.c.number > since, *wanted).order_by(audit.c.number).limit(PAGE)
        with self._read() as connection:
            try:
                return [_log_row(row) for row in connection.execute(query).mappings()]
            except (ValueError, TypeError, AttributeError):  # a time that is none, a direction there is not
                number = self._first_unreadable(connection, query.with_only_columns(audit.c.number))
                raise LogRowError(number) from None

    def _first_unreadable(self, connection: Connection, numbers: Select[Any]) -> int:
        read = log.select_entries()
        found: list[int] = list(connection.execute(numbers).scalars())
        for number in found:
            try:
                _log_row(connection.execute(read.where(audit.c.number == number)).mappings().one())
            except (ValueError, TypeError, AttributeError):
                return number
        return found[0]


def _reader(connection: Connection) -> merkle.ReadNode:
    return lambda where: log.node(connection, where)


def _log_row(row: RowMapping) -> LogRow:
    return LogRow(log.entry_of(row), row["commitments"], row["salts"])


def _erasable(connection: Connection, moment: datetime) -> tuple[int, int]:
    query = (
        select(func.count(), func.max(audit.c.number))
        .select_from(audit.join(audit_erasable, audit.c.number == audit_erasable.c.number))
        .where(audit.c.at < moment, audit.c.direction != Direction.OWN)
    )
    count, last = connection.execute(query).one()
    return count, last or 0


def _keep_fork(connection: Connection, fork: Fork) -> None:
    columns = audit_forks.c
    digest = hashlib.sha256(fork.offered).digest()
    ours = connection.execute(select(columns.offered_sha256).where(columns.province == fork.province)).scalars().all()
    if digest not in ours and len(ours) < MAX_FORKS:
        connection.execute(insert(audit_forks), [{**asdict(fork), "offered_sha256": digest}])
