"""The audit becomes a log with a hash tree: values that can be erased beside it, commitments to them within."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from node.leaves import ERASABLE, SALTS_BYTES, commitments, leaf
from node.merkle import grown
from node.store.records import AuditEntry

revision = "0002"
down_revision = "0001"

# INSERT OR REPLACE deletes without firing a DELETE trigger, hence the guard on INSERT.
APPEND_ONLY: Final = {"audit": "number", "audit_nodes": "position"}
REPLACE: Final = "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"
TIME: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Build the new tables and carry the rows over, numbered without gaps."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    old = sa.table("audit", *(sa.column(name, TIME if name == "at" else None) for name in OLD_COLUMNS))
    rows = connection.execute(sa.select(old).order_by(old.c.number)).mappings().all()
    op.drop_table("audit")  # its triggers go with it
    _create()
    _guard(is_sqlite=is_sqlite)
    if rows:
        _carry_over(connection, [dict(row) for row in rows])


OLD_COLUMNS: Final = (
    "number",
    "at",
    "direction",
    "peer",
    "method",
    "purpose",
    "outcome",
    "reason",
    "case_reference",
    "operator_pseudonym",
    "nonce",
    "request_sha256",
    "generation",
    "schema_fingerprint",
    "key_epoch",
    "duration_ms",
)


def _create() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit",
        sa.Column("number", key, primary_key=True, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("direction", sa.String(8), nullable=False),
        sa.Column("peer", sa.String(8), nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("purpose", sa.String(32)),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("concerns", sa.BigInteger()),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("handles_given", sa.Integer()),
        sa.Column("request_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("generation", sa.String(32)),
        sa.Column("schema_fingerprint", sa.LargeBinary(32)),
        sa.Column("key_epoch", sa.Integer()),
        sa.Column("duration_ms", sa.Integer()),
        sa.Column("commitments", sa.LargeBinary(128), nullable=False),
        sa.CheckConstraint("direction IN ('asked', 'answered', 'own')", name="audit_direction"),
        sa.CheckConstraint("length(request_sha256) = 32", name="audit_request_sha256"),
        sa.CheckConstraint("length(commitments) = 128", name="audit_commitments"),
        sa.CheckConstraint("calls > 0", name="audit_calls"),
    )
    answered = sa.text("direction = 'answered'")
    op.create_index(
        "audit_one_outcome", "audit", ["concerns"], unique=True, sqlite_where=answered, postgresql_where=answered
    )
    op.create_table(
        "audit_erasable",
        sa.Column("number", key, primary_key=True, autoincrement=False),
        sa.Column("case_reference", sa.String(64)),
        sa.Column("operator_pseudonym", sa.LargeBinary(32)),
        sa.Column("nonce", sa.LargeBinary(32)),
        sa.Column("reason", sa.String(255)),
        sa.Column("salts", sa.LargeBinary(64), nullable=False),
        sa.CheckConstraint("length(salts) = 64", name="audit_erasable_salts"),
    )
    op.create_index("audit_erasable_case", "audit_erasable", ["case_reference"])
    op.create_table(
        "audit_nodes",
        sa.Column("position", key, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.CheckConstraint("length(hash) = 32", name="audit_nodes_hash"),
    )


def _guard(*, is_sqlite: bool) -> None:
    """Let nobody change a row of the log; of an erasable half, nobody may change what it says."""
    if not is_sqlite:
        for table in APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION pulang_append_only()"
            )
        op.execute(
            "CREATE TRIGGER audit_erasable_no_update BEFORE UPDATE ON audit_erasable "
            "FOR EACH STATEMENT EXECUTE FUNCTION pulang_append_only()"
        )
        return
    guards = {"audit_erasable_no_update": "BEFORE UPDATE ON audit_erasable"}
    guards["audit_erasable_no_replace"] = REPLACE.format(table="audit_erasable", key="number")
    for table, key in APPEND_ONLY.items():
        guards[f"{table}_no_update"] = f"BEFORE UPDATE ON {table}"
        guards[f"{table}_no_delete"] = f"BEFORE DELETE ON {table}"
        guards[f"{table}_no_replace"] = REPLACE.format(table=table, key=key)
    for name, when in guards.items():
        op.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END")


def _carry_over(connection: sa.Connection, old_rows: list[dict[str, Any]]) -> None:
    nodes: dict[int, bytes] = {}
    rows, halves = [], []
    for number, values in enumerate(old_rows, start=1):
        at: datetime = values["at"]
        values["at"] = at.replace(tzinfo=UTC) if at.tzinfo is None else at  # SQLite keeps no zone; all are UTC
        entry = AuditEntry(**(values | {"number": number}))
        salts = secrets.token_bytes(SALTS_BYTES)
        committed = commitments(entry, salts)
        nodes.update(grown(number - 1, leaf(entry, number, committed), nodes.__getitem__))
        kept = {name: value for name, value in values.items() if name not in ERASABLE}
        rows.append({**kept, "number": number, "calls": 1, "commitments": committed})
        halves.append({"number": number, "salts": salts, **{name: values[name] for name in ERASABLE}})
    for name, content in (
        ("audit", rows),
        ("audit_erasable", halves),
        ("audit_nodes", [{"position": where, "hash": value} for where, value in nodes.items()]),
    ):
        columns = (sa.column(column, TIME if column == "at" else None) for column in content[0])
        connection.execute(sa.insert(sa.table(name, *columns)), content)
