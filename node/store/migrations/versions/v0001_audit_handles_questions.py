"""The first tables: audit (append-only), handles, questions."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# INSERT OR REPLACE deletes without firing a DELETE trigger, hence the guard on INSERT.
SQLITE_GUARDS: Final = {
    "audit_no_update": "BEFORE UPDATE ON audit",
    "audit_no_delete": "BEFORE DELETE ON audit",
    "audit_no_replace": "BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE number = NEW.number)",
}
POSTGRESQL_FUNCTION: Final = """
CREATE FUNCTION pulang_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$
"""
POSTGRESQL_GUARD: Final = """
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION pulang_append_only()
"""


def upgrade() -> None:
    """Build the tables in an empty database."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    time = sa.DateTime(timezone=True)
    op.create_table(
        "audit",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("at", time, nullable=False),
        sa.Column("direction", sa.String(8), nullable=False),
        sa.Column("peer", sa.String(8), nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("purpose", sa.String(32)),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(255)),
        sa.Column("case_reference", sa.String(64)),
        sa.Column("operator_pseudonym", sa.LargeBinary(32)),
        sa.Column("nonce", sa.LargeBinary(32)),
        sa.Column("request_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("generation", sa.String(32)),
        sa.Column("schema_fingerprint", sa.LargeBinary(32)),
        sa.Column("key_epoch", sa.Integer()),
        sa.Column("duration_ms", sa.Integer()),
        sa.CheckConstraint("direction IN ('asked', 'answered')", name="audit_direction"),
        sa.CheckConstraint("length(request_sha256) = 32", name="audit_request_sha256"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "handles",
        sa.Column("handle_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("question_nonce", sa.LargeBinary(32), nullable=False),
        sa.Column("peer", sa.String(8), nullable=False),
        sa.Column("record_id", sa.String(255), nullable=False),
        sa.Column("generation", sa.String(32), nullable=False),
        sa.Column("issued_at", time, nullable=False),
        sa.Column("expires_at", time, nullable=False),
    )
    op.create_index("handles_expires_at", "handles", ["expires_at"])
    op.create_table(
        "questions",
        sa.Column("question_id", sa.LargeBinary(32), primary_key=True),
        sa.Column("case_reference", sa.String(64), nullable=False),
        sa.Column("asked_at", time, nullable=False),
        sa.Column("concluded_at", time),
        sa.Column("outcome", sa.String(32)),
        sa.Column("province", sa.String(8)),
        sa.Column("none_probability", sa.Float()),
    )
    op.create_table(
        "question_provinces",
        sa.Column("question_id", sa.LargeBinary(32), sa.ForeignKey("questions.question_id"), primary_key=True),
        sa.Column("province", sa.String(8), primary_key=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for name, when in SQLITE_GUARDS.items():
            op.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END")
    else:
        op.execute(POSTGRESQL_FUNCTION)
        op.execute(POSTGRESQL_GUARD)
