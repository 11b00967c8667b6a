"""Signed checkpoints of the audit log, their cosignatures, and what this node has witnessed of others."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

APPEND_ONLY: Final = {
    "audit_checkpoints": ("log_key", "size"),
    "audit_cosignatures": ("log_key", "size", "witness"),
    "audit_forks": ("province", "offered_sha256"),
}
# INSERT OR REPLACE deletes without firing a DELETE trigger.
REPLACE: Final = "BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})"


def upgrade() -> None:
    """Add the tables; what has been signed can be neither changed nor deleted."""
    time, key = sa.DateTime(timezone=True), sa.LargeBinary(32)
    op.create_table(
        "audit_checkpoints",
        sa.Column("log_key", key, primary_key=True),
        sa.Column("size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "audit_cosignatures",
        sa.Column("log_key", key, primary_key=True),
        sa.Column("size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("witness", sa.String(8), primary_key=True),
        sa.Column("witness_key", sa.LargeBinary(32), nullable=False),
        sa.Column("line", sa.String(512), nullable=False),
    )
    op.create_table(
        "audit_witnessed",
        sa.Column("province", sa.String(8), primary_key=True),
        sa.Column("log_key", key, primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "audit_forks",
        sa.Column("province", sa.String(8), primary_key=True),
        sa.Column("offered_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("at", time, nullable=False),
        sa.Column("seen", sa.LargeBinary(), nullable=False),
        sa.Column("offered", sa.LargeBinary(), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for table, keys in APPEND_ONLY.items():
        _guard(table, keys, is_sqlite=is_sqlite)


def _guard(table: str, keys: tuple[str, ...], *, is_sqlite: bool) -> None:
    if not is_sqlite:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION pulang_append_only()"
        )
        return
    same = " AND ".join(f"{key} = NEW.{key}" for key in keys)
    for name, when in {
        "no_update": f"BEFORE UPDATE ON {table}",
        "no_delete": f"BEFORE DELETE ON {table}",
        "no_replace": REPLACE.format(table=table, same=same),
    }.items():
        op.execute(f"CREATE TRIGGER {table}_{name} {when} BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END")
