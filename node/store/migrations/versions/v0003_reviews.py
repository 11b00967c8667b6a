"""The review queue: candidates that wait for a person, and what reviewers did (append-only)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# INSERT OR REPLACE deletes without firing a DELETE trigger, hence the guard on INSERT.
SQLITE_GUARDS: Final = {
    "review_events_no_update": "BEFORE UPDATE ON review_events",
    "review_events_no_delete": "BEFORE DELETE ON review_events",
    "review_events_no_replace": (
        "BEFORE INSERT ON review_events WHEN EXISTS (SELECT 1 FROM review_events WHERE number = NEW.number)"
    ),
}
POSTGRESQL_FUNCTION: Final = """
CREATE FUNCTION pulang_review_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'review events are append-only'; END $$
"""
POSTGRESQL_GUARD: Final = """
CREATE TRIGGER review_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON review_events
FOR EACH STATEMENT EXECUTE FUNCTION pulang_review_append_only()
"""


def upgrade() -> None:
    """Add the two tables."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    time = sa.DateTime(timezone=True)
    op.create_table(
        "review_items",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("handle_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("record_id", sa.String(255), nullable=False),
        sa.Column("generation", sa.String(32), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("peer", sa.String(8), nullable=False),
        sa.Column("case_reference", sa.String(64), nullable=False),
        sa.Column("question_nonce", sa.LargeBinary(32), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("answered_at", time, nullable=False),
        sa.Column("schema_fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("levels", sa.LargeBinary(64), nullable=False),
        sa.Column("groups", sa.String(255), nullable=False),
        sa.Column("admitted", sa.LargeBinary(512), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("leased_to", sa.LargeBinary(32)),
        sa.Column("leased_until", time),
        sqlite_autoincrement=True,
    )
    op.create_index("review_items_state", "review_items", ["state", "peer"])
    op.create_table(
        "review_events",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("item", sa.BigInteger(), sa.ForeignKey("review_items.number"), nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("operator_pseudonym", sa.LargeBinary(32), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("review_events_item", "review_events", ["item"])
    op.create_index("review_events_at", "review_events", ["at"])
    if op.get_bind().dialect.name == "sqlite":
        for name, when in SQLITE_GUARDS.items():
            op.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'review events are append-only'); END")
    else:
        op.execute(POSTGRESQL_FUNCTION)
        op.execute(POSTGRESQL_GUARD)
