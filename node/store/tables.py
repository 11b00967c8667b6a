"""The tables as the present schema version has them; the migrations under `migrations/` build them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    false,
    text,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

VERSION_TABLE = "pulang_version"


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime on both sides; a naive one is refused, because nobody could say what it meant."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn an aware datetime to UTC before it is written."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give back an aware UTC datetime; SQLite keeps no zone, PostgreSQL answers in the session's."""
        if value is None:
            return None
        stored: datetime = value
        return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


metadata = MetaData()

# Leaf number - 1 of the log's hash tree (node/leaves.py says how a row becomes a leaf). No value that would have to be
# erased stands here: commitments holds 32 bytes for each field of ERASABLE, and the values lie in `audit_erasable`.
audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("direction", String(8), nullable=False),
    Column("peer", String(8), nullable=False),
    Column("method", String(32), nullable=False),
    Column("purpose", String(32)),
    Column("outcome", String(32), nullable=False),
    Column("concerns", BigInteger),
    Column("calls", BigInteger, nullable=False),
    Column("handles_given", Integer),
    Column("request_sha256", LargeBinary(32), nullable=False),
    Column("generation", String(32)),
    Column("schema_fingerprint", LargeBinary(32)),
    Column("key_epoch", Integer),
    Column("duration_ms", Integer),
    Column("commitments", LargeBinary(128), nullable=False),
    CheckConstraint("direction IN ('asked', 'answered', 'own')", name="audit_direction"),
    CheckConstraint("length(request_sha256) = 32", name="audit_request_sha256"),
    CheckConstraint("length(commitments) = 128", name="audit_commitments"),
    CheckConstraint("calls > 0", name="audit_calls"),
    # A pending row has one outcome: whoever comes second with another is refused, and his answer stays here.
    Index(
        "audit_one_outcome",
        "concerns",
        unique=True,
        sqlite_where=text("direction = 'answered'"),
        postgresql_where=text("direction = 'answered'"),
    ),
)

# What retention erases, and the salts without which the commitments say nothing. A row is added and deleted, never
# changed; the audit says what was deleted.
audit_erasable = Table(
    "audit_erasable",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("case_reference", String(64)),
    Column("operator_pseudonym", LargeBinary(32)),
    Column("nonce", LargeBinary(32)),
    Column("reason", String(255)),
    Column("salts", LargeBinary(64), nullable=False),
    CheckConstraint("length(salts) = 64", name="audit_erasable_salts"),
    Index("audit_erasable_case", "case_reference"),
)

# The complete subtrees of the log's hash tree, by position (node/merkle.py). Append-only.
audit_nodes = Table(
    "audit_nodes",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
    CheckConstraint("length(hash) = 32", name="audit_nodes_hash"),
)

# Signed heads of this node's log, as they were published. log_key: the key that signed; a new key begins a new log.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("log_key", LargeBinary(32), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

# What other provinces have signed under our checkpoints: each line says that its witness saw no other history.
audit_cosignatures = Table(
    "audit_cosignatures",
    metadata,
    Column("log_key", LargeBinary(32), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("witness", String(8), primary_key=True),
    Column("witness_key", LargeBinary(32), nullable=False),
    Column("line", String(512), nullable=False),
)

# The newest head of each other province's log that this node has cosigned.
audit_witnessed = Table(
    "audit_witnessed",
    metadata,
    Column("province", String(8), primary_key=True),
    Column("log_key", LargeBinary(32), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("note", LargeBinary, nullable=False),
)

# Evidence against another province's log: two heads it has signed that cannot both be true.
audit_forks = Table(
    "audit_forks",
    metadata,
    Column("province", String(8), primary_key=True),
    Column("offered_sha256", LargeBinary(32), primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("seen", LargeBinary, nullable=False),
    Column("offered", LargeBinary, nullable=False),
    Column("proof", LargeBinary, nullable=False),
)

# Only the handle's hash is kept: whoever reads a stolen copy of the database cannot present a handle to us.
handles = Table(
    "handles",
    metadata,
    Column("handle_sha256", LargeBinary(32), primary_key=True),
    Column("question_nonce", LargeBinary(32), nullable=False),
    Column("peer", String(8), nullable=False),
    Column("record_id", String(255), nullable=False),
    Column("generation", String(32), nullable=False),
    Column("issued_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("case_reference", String(64)),
    Column("opened_at", UtcTime),
    Column("opened_by", String(64)),
    Index("handles_expires_at", "expires_at"),
)

questions = Table(
    "questions",
    metadata,
    Column("question_id", LargeBinary(32), primary_key=True),
    Column("case_reference", String(64), nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    Column("concluded_at", UtcTime),  # none while it is open; after a crash, such a question was interrupted
    Column("outcome", String(32)),
    Column("province", String(8)),
    Column("none_probability", Float),
    # Sealed with the node's own key, and emptied some days after the case is closed.
    Column("sealed_request", LargeBinary),
    Column("sealed_result", LargeBinary),
    Column("ask_until", UtcTime),
    Column("closed_at", UtcTime),
    Column("closed_reason", String(32)),
    Index("questions_case_reference", "case_reference"),
)

question_provinces = Table(
    "question_provinces",
    metadata,
    Column("question_id", LargeBinary(32), ForeignKey("questions.question_id"), primary_key=True),
    Column("province", String(8), primary_key=True),
    Column("state", String(32), nullable=False),
    Column("probability", Float),  # none until the question has been concluded
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    # Of the newest attempt: with them its very bytes can be made again.
    Column("nonce", LargeBinary(32)),
    Column("issued_at", UtcTime),
    Column("deadline", UtcTime),
    Column("outstanding", Boolean, nullable=False, server_default=false()),  # nothing was heard of it
    Column("next_try_at", UtcTime),
    Column("heard", String(1024)),
    Column("heard_at", UtcTime),
    Column("sealed_answer", LargeBinary),
    Column("answered_at", UtcTime),
    Column("generation", BigInteger),
    Column("renewed_at", UtcTime),
    Index("question_provinces_next_try_at", "next_try_at"),
)

case_events = Table(
    "case_events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("question_id", LargeBinary(32), ForeignKey("questions.question_id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("outcome", String(32)),
    Column("province", String(8)),
    Column("detail", String(255)),
    Column("seen", Boolean, nullable=False),
    Index("case_events_question_id", "question_id"),
)

# No weight and no probability: a reviewer is blind to them because nobody wrote them down.
review_items = Table(
    "review_items",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("handle_sha256", LargeBinary(32), nullable=False),
    Column("record_id", String(255), nullable=False),  # emptied REVIEW_LIFETIME after the answer
    Column("generation", String(32), nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("peer", String(8), nullable=False),
    Column("case_reference", String(64), nullable=False),
    Column("question_nonce", LargeBinary(32), nullable=False),
    Column("request_sha256", LargeBinary(32), nullable=False),
    Column("answered_at", UtcTime, nullable=False),
    Column("schema_fingerprint", LargeBinary(32), nullable=False),
    Column("levels", LargeBinary(64), nullable=False),
    Column("groups", String(255), nullable=False),
    Column("admitted", LargeBinary(512), nullable=False),
    Column("state", String(16), nullable=False),
    Column("leased_to", LargeBinary(32)),
    Column("leased_until", UtcTime),
    Index("review_items_state", "state", "peer"),
    Index(
        "review_items_answered_at",
        "answered_at",
        sqlite_where=text("record_id <> ''"),
        postgresql_where=text("record_id <> ''"),
    ),
    sqlite_autoincrement=True,
)

review_events = Table(
    "review_events",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("item", BigInteger, ForeignKey("review_items.number"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("event", String(16), nullable=False),
    Column("operator_pseudonym", LargeBinary(32), nullable=False),
    Index("review_events_item", "item"),
    Index("review_events_at", "at"),
    sqlite_autoincrement=True,
)

# One row per peer that has asked: whoever changes what is counted for a peer locks it first.
askers = Table("askers", metadata, Column("peer", String(8), primary_key=True))

spendings = Table(
    "spendings",
    metadata,
    Column("peer", String(8), ForeignKey("askers.peer"), primary_key=True),
    Column("scope", String(16), primary_key=True),
    Column("holder", String(64), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("used", Integer, nullable=False),
)

nonces = Table(
    "nonces",
    metadata,
    Column("peer", String(8), primary_key=True),
    Column("nonce", LargeBinary(32), primary_key=True),
    Column("request_sha256", LargeBinary(32), nullable=False),
    Column("claimed_at", UtcTime, nullable=False),
    Column("lease_until", UtcTime, nullable=False),
    Column("reply", LargeBinary),  # sealed under a key that only the request's bytes give
    Index("nonces_claimed_at", "claimed_at"),
    Index(
        "nonces_kept",
        "claimed_at",
        sqlite_where=text("reply IS NOT NULL"),
        postgresql_where=text("reply IS NOT NULL"),
    ),
)

contents = Table(
    "contents",
    metadata,
    Column("peer", String(8), primary_key=True),
    Column("content", LargeBinary(32), primary_key=True),
    Column("asked_at", UtcTime, nullable=False),
    Index("contents_asked_at", "asked_at"),
)

sightings = Table(
    "sightings",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("peer", String(8), nullable=False),
    Column("operator_pseudonym", LargeBinary(32), nullable=False),
    Column("case_reference", String(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("found", Boolean, nullable=False),
    Column("sketch", LargeBinary, nullable=False),
    Index("sightings_peer_number", "peer", "number"),
    sqlite_autoincrement=True,
)

throttles = Table(
    "throttles",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("peer", String(8), nullable=False),
    Column("operator_pseudonym", LargeBinary(32)),  # none: the whole peer
    Column("pattern", String(32), nullable=False),
    Column("evidence", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("released_at", UtcTime),
    Column("released_by", String(64)),
    Index("throttles_peer", "peer"),
    sqlite_autoincrement=True,
)

version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))
