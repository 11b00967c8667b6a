"""Measures what the audit log adds to an answer: its two commits, against two commits that hash nothing."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from benchmarks.speed import Spread
from node.store import PENDING, AuditEntry, Direction, HandleRecord, QuestionRecord, open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

HANDLES: Final = 5  # as many as an answer gives at most
FILL_BATCH: Final = 500


@dataclass(frozen=True)
class AuditSpeed:
    """Milliseconds an answer. audited: PENDING row, outcome, five handles. bare: two commits of one plain row each."""

    rows: int
    audited_ms: Spread
    bare_ms: Spread
    root_ms: float

    @property
    def ratio(self) -> float:
        """How many times the bare commits an audited answer costs."""
        return self.audited_ms.median / self.bare_ms.median


def measure(folder: Path, now: datetime, *, rows: int, answers: int, step: Callable[[], None]) -> AuditSpeed:
    """Fill an SQLite log with `rows` rows, then measure `answers` of each kind in turn, so that both meet one machine.

    step: called after each pair.
    """
    store = open_store(f"sqlite:///{folder}/node.db")
    try:
        for _ in range(0, rows, FILL_BATCH):
            store.record_events([_entry(now, number) for number in range(min(FILL_BATCH, rows))])
        audited: list[float] = []
        bare: list[float] = []
        for number in range(answers):
            handles = [_handle(now) for _ in range(HANDLES)]
            started = time.perf_counter()
            pending = store.record_pending(replace(_entry(now, number), outcome=PENDING))
            store.record_answer(replace(_entry(now, number), concerns=pending), handles)
            audited.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            for _ in range(2):
                store.record_question(QuestionRecord(secrets.token_bytes(16), "case", now), [])
            bare.append((time.perf_counter() - started) * 1000)
            step()
        started = time.perf_counter()
        size, _ = store.log.head()
        root_ms = (time.perf_counter() - started) * 1000
    finally:
        store.close()
    return AuditSpeed(size, Spread.of(audited), Spread.of(bare), root_ms)


def _entry(now: datetime, number: int) -> AuditEntry:
    return AuditEntry(
        at=now,
        direction=Direction.ANSWERED,
        peer="33",
        method="ask",
        outcome="answered",
        request_sha256=secrets.token_bytes(32),
        purpose="return_home",
        case_reference=f"K-{number}",
        operator_pseudonym=secrets.token_bytes(16),
        nonce=secrets.token_bytes(16),
        generation="g000001",
        schema_fingerprint=bytes(32),
        key_epoch=1,
        duration_ms=12,
    )


def _handle(now: datetime) -> HandleRecord:
    return HandleRecord(
        secrets.token_bytes(16), secrets.token_bytes(16), "33", "R1", "g000001", now, now + timedelta(days=7)
    )
