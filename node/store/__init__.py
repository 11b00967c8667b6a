"""What a node remembers: audit, handles and questions, in SQLite or PostgreSQL. The only room that speaks SQL."""

from __future__ import annotations

from node.store.cases import Cases
from node.store.records import (
    NO_REQUEST,
    PENDING,
    AttemptRecord,
    AuditEntry,
    CaseEvent,
    CaseRecord,
    CheckpointRecord,
    CosignatureRecord,
    Direction,
    Fork,
    HandleRecord,
    HearingRecord,
    LogRow,
    ProvinceRecord,
    ProvinceShare,
    QuestionOutcome,
    QuestionRecord,
    ReviewEvent,
    ReviewFacts,
    ReviewItem,
    ReviewState,
    WitnessedHead,
)
from node.store.store import Store, open_store, sqlite_folder

__all__ = [
    "NO_REQUEST",
    "PENDING",
    "AttemptRecord",
    "AuditEntry",
    "CaseEvent",
    "CaseRecord",
    "Cases",
    "CheckpointRecord",
    "CosignatureRecord",
    "Direction",
    "Fork",
    "HandleRecord",
    "HearingRecord",
    "LogRow",
    "ProvinceRecord",
    "ProvinceShare",
    "QuestionOutcome",
    "QuestionRecord",
    "ReviewEvent",
    "ReviewFacts",
    "ReviewItem",
    "ReviewState",
    "Store",
    "WitnessedHead",
    "open_store",
    "sqlite_folder",
]
