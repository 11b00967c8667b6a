"""Budgets, remembered nonces and contents, the sweep monitor's memory; handles know their case and their opening."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the tables and columns."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    time = sa.DateTime(timezone=True)
    op.add_column("handles", sa.Column("case_reference", sa.String(64)))
    op.add_column("handles", sa.Column("opened_at", time))
    op.add_column("handles", sa.Column("opened_by", sa.String(64)))
    op.create_table("askers", sa.Column("peer", sa.String(8), primary_key=True))
    op.create_table(
        "spendings",
        sa.Column("peer", sa.String(8), sa.ForeignKey("askers.peer"), primary_key=True),
        sa.Column("scope", sa.String(16), primary_key=True),
        sa.Column("holder", sa.String(64), primary_key=True),
        sa.Column("day", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("used", sa.Integer(), nullable=False),
    )
    op.create_table(
        "nonces",
        sa.Column("peer", sa.String(8), primary_key=True),
        sa.Column("nonce", sa.LargeBinary(32), primary_key=True),
        sa.Column("request_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("claimed_at", time, nullable=False),
        sa.Column("lease_until", time, nullable=False),
        sa.Column("reply", sa.LargeBinary()),
    )
    op.create_table(
        "contents",
        sa.Column("peer", sa.String(8), primary_key=True),
        sa.Column("content", sa.LargeBinary(32), primary_key=True),
        sa.Column("asked_at", time, nullable=False),
    )
    op.create_table(
        "sightings",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("peer", sa.String(8), nullable=False),
        sa.Column("operator_pseudonym", sa.LargeBinary(32), nullable=False),
        sa.Column("case_reference", sa.String(64), nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("found", sa.Boolean(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("sightings_peer_number", "sightings", ["peer", "number"])
    op.create_table(
        "throttles",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("peer", sa.String(8), nullable=False),
        sa.Column("operator_pseudonym", sa.LargeBinary(32)),
        sa.Column("pattern", sa.String(32), nullable=False),
        sa.Column("evidence", sa.Integer(), nullable=False),
        sa.Column("since", time, nullable=False),
        sa.Column("released_at", time),
        sa.Column("released_by", sa.String(64)),
        sqlite_autoincrement=True,
    )
    op.create_index("throttles_peer", "throttles", ["peer"])
