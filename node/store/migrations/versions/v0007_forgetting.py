"""Indexes by which what is past its time is found, and forgotten, without reading all the rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the indexes."""
    kept, named = sa.text("reply IS NOT NULL"), sa.text("record_id <> ''")
    op.create_index("nonces_claimed_at", "nonces", ["claimed_at"])
    op.create_index("nonces_kept", "nonces", ["claimed_at"], sqlite_where=kept, postgresql_where=kept)
    op.create_index("contents_asked_at", "contents", ["asked_at"])
    op.create_index(
        "review_items_answered_at", "review_items", ["answered_at"], sqlite_where=named, postgresql_where=named
    )
