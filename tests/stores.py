"""A node's database as the tests meet it: on both kinds, with rows made up on the spot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from node.store import AuditEntry, Direction, HandleRecord, Store, open_store
from node.store.engine import parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import PostgresServer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

# Appends answers one after the other and says which are acknowledged; run as `python -c WRITER url name count`.
WRITER = """
import hashlib, sys
from datetime import UTC, datetime, timedelta
from node.store import AuditEntry, Direction, HandleRecord, open_store
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(url, wait_s=30)
now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
for i in range(count):
    digest = hashlib.sha256(f"{name}-{i}".encode()).digest()
    entry = AuditEntry(now, Direction.ANSWERED, "33", "ask", "answered", digest, case_reference=f"{name}-{i}")
    handle = HandleRecord(digest[:16], digest[16:], "33", "R1", "g000001", now, now + timedelta(hours=1))
    store.record_answer(entry, [handle])
    print(i, flush=True)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/node.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as database:
        yield database


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url, wait_s=1.0)
    yield opened
    opened.close()


def entry(number: int = 0, **changes: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "at": NOW,
        "direction": Direction.ANSWERED,
        "peer": "33",
        "method": "ask",
        "purpose": "return_home",
        "outcome": "answered",
        "request_sha256": bytes([number]) * 32,
        "case_reference": f"case-{number}",
    }
    return AuditEntry(**(values | changes))


def handle(seed: int, *, expires_at: datetime = NOW + timedelta(days=1)) -> HandleRecord:
    return HandleRecord(bytes([seed]) * 16, b"n" * 16, "33", f"R-{seed}", "g000001", NOW, expires_at)


def execute(url: str, statement: str) -> None:
    """Run a statement as an outsider would, past the store."""
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """Read as an outsider would, past the store."""
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]
