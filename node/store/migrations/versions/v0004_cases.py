"""Questions that are asked again: what was asked, how every province stands, and what happened to a case."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add to what is there; questions asked before have nothing to be asked again with and stay as they are."""
    time = sa.DateTime(timezone=True)
    with op.batch_alter_table("questions") as table:
        table.add_column(sa.Column("sealed_request", sa.LargeBinary()))
        table.add_column(sa.Column("sealed_result", sa.LargeBinary()))
        table.add_column(sa.Column("ask_until", time))
        table.add_column(sa.Column("closed_at", time))
        table.add_column(sa.Column("closed_reason", sa.String(32)))
    op.create_index("questions_case_reference", "questions", ["case_reference"])
    with op.batch_alter_table("question_provinces") as table:
        table.alter_column("probability", existing_type=sa.Float(), nullable=True)
        table.add_column(sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("nonce", sa.LargeBinary(32)))
        table.add_column(sa.Column("issued_at", time))
        table.add_column(sa.Column("deadline", time))
        table.add_column(sa.Column("outstanding", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("next_try_at", time))
        table.add_column(sa.Column("heard", sa.String(1024)))
        table.add_column(sa.Column("heard_at", time))
        table.add_column(sa.Column("sealed_answer", sa.LargeBinary()))
        table.add_column(sa.Column("answered_at", time))
        table.add_column(sa.Column("generation", sa.BigInteger()))
        table.add_column(sa.Column("renewed_at", time))
    op.create_index("question_provinces_next_try_at", "question_provinces", ["next_try_at"])
    op.create_table(
        "case_events",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("question_id", sa.LargeBinary(32), sa.ForeignKey("questions.question_id"), nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(32)),
        sa.Column("province", sa.String(8)),
        sa.Column("detail", sa.String(255)),
        sa.Column("seen", sa.Boolean(), nullable=False),
    )
    op.create_index("case_events_question_id", "case_events", ["question_id"])
