"""The audit log as the database keeps it: rows, their erasable halves and the hash tree, grown in one transaction."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, func, insert, select

from node.leaves import ERASABLE, SALTS_BYTES, commitments, leaf
from node.merkle import grown
from node.store.records import AuditEntry, Direction
from node.store.tables import audit, audit_erasable, audit_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, RowMapping, Select

KEPT: Final = tuple(name for name in AuditEntry.__slots__ if name not in ERASABLE)
LOG_LOCK: Final = 0x50554C4F47  # "PULOG": any number of our own

# Made once: making a statement costs several times what the database does for it.
_SIZES: Final = select(
    select(func.max(audit.c.number)).scalar_subquery(), select(func.max(audit_nodes.c.position)).scalar_subquery()
)
_ADD_ROWS: Final = insert(audit)
_ADD_HALVES: Final = insert(audit_erasable)
_ADD_NODES: Final = insert(audit_nodes)
_NODE: Final = select(audit_nodes.c.hash).where(audit_nodes.c.position == bindparam("position"))


class LogDamagedError(Exception):
    """Rows and tree do not fit together: somebody has changed the database past the node."""


def append(connection: Connection, entries: Sequence[AuditEntry]) -> list[int]:
    """Append rows in this order; returns their numbers: the next ones without a gap, whoever else is appending.

    The caller's transaction makes rows, erasable halves and tree nodes durable together. On SQLite it has begun
    IMMEDIATE, on PostgreSQL an advisory lock is taken here: either way nobody else appends until it has ended.
    """
    if not entries:
        return []
    hold(connection)
    size, leaves = sizes(connection)
    if size != leaves:
        raise LogDamagedError("rows and tree are not equally long")
    fresh: dict[int, bytes] = {}

    def read(where: int) -> bytes:
        return fresh[where] if where in fresh else node(connection, where)

    rows: list[dict[str, Any]] = []
    halves: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, start=size + 1):
        salts = secrets.token_bytes(SALTS_BYTES)
        committed = commitments(entry, salts)
        fresh.update(grown(number - 1, leaf(entry, number, committed), read))
        rows.append({**_values(entry, KEPT), "number": number, "commitments": committed})
        halves.append({**_values(entry, ERASABLE), "number": number, "salts": salts})
    connection.execute(_ADD_ROWS, rows)
    connection.execute(_ADD_HALVES, halves)
    connection.execute(_ADD_NODES, [{"position": where, "hash": value} for where, value in fresh.items()])
    return [row["number"] for row in rows]


def hold(connection: Connection) -> None:
    """Keep everybody else from appending until the transaction ends; SQLite's transactions do so by themselves."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LOG_LOCK)))


def sizes(connection: Connection) -> tuple[int, int]:
    """Return how many rows the log has, and how many leaves its tree: the last leaf has the highest position."""
    number, last = connection.execute(_SIZES).one()
    return number or 0, 0 if last is None else last // 2 + 1


def node(connection: Connection, where: int) -> bytes:
    """Return a stored node of the tree. Raises LogDamagedError when it is not there."""
    found = connection.execute(_NODE, {"position": where}).first()
    if found is None:
        raise LogDamagedError(f"the tree has no node {where}")
    value: bytes = found.hash
    return value


def _values(entry: AuditEntry, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in names}


def select_entries() -> Select[Any]:
    """Return the query of rows with what is left of their erasable halves."""
    return select(audit, *(audit_erasable.c[name] for name in (*ERASABLE, "salts"))).join(
        audit_erasable, audit.c.number == audit_erasable.c.number, isouter=True
    )


def entry_of(row: RowMapping) -> AuditEntry:
    """Return one row of `select_entries` as a plain value."""
    values = {name: row[name] for name in AuditEntry.__slots__}
    return AuditEntry(**{**values, "direction": Direction(values["direction"])})
