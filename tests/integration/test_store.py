# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""The store on both databases it supports: what it wrote is there, stays there, and faults are named."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError, StatementError

from node.errors import ConfigError, StoreError
from node.store import (
    AuditEntry,
    Direction,
    HandleRecord,
    ProvinceShare,
    QuestionOutcome,
    QuestionRecord,
    Store,
    open_store,
    schema,
    tables,
)
from node.store.engine import make_engine, parse_url
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.stores import NOW, WRITER, entry, execute, handle, rows, store, url  # noqa: F401 - fixtures among them

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import PostgresServer


def test_an_answer_and_its_handles_come_back_as_they_were_written(store: Store) -> None:
    full = entry(
        1,
        reason="none",
        operator_pseudonym=b"o" * 16,
        nonce=b"n" * 16,
        generation="g000007",
        schema_fingerprint=b"f" * 32,
        key_epoch=2**32 - 1 >> 1,
        duration_ms=12,
        at=NOW.astimezone(),
    )
    store.record_answer(full, [handle(1), handle(2)])
    (written,) = store.audit_entries()
    assert written == AuditEntry(**{name: getattr(full, name) for name in AuditEntry.__slots__} | {"number": 1})
    assert written.at.utcoffset() == timedelta(0)
    assert store.resolve_handle(bytes([2]) * 16, NOW) == handle(2)


def test_a_question_is_written_before_and_after_it_is_asked(store: Store, url: str) -> None:
    asked = [entry(direction=Direction.ASKED, peer=peer, outcome="sent") for peer in ("33", "51")]
    store.record_question(QuestionRecord(b"q" * 16, "case-1", NOW), asked)
    assert rows(url, "SELECT case_reference, outcome FROM questions") == [("case-1", None)]

    shares = (ProvinceShare("33", "answered", 0.75), ProvinceShare("51", "timed_out", 0.1))
    heard = [replace(asked[0], outcome="answered"), replace(asked[1], outcome="timed_out")]
    store.record_outcome(QuestionOutcome(b"q" * 16, NOW, "incomplete", "33", 0.15, shares), heard)
    assert rows(url, "SELECT outcome, province, none_probability FROM questions") == [("incomplete", "33", 0.15)]
    assert rows(url, "SELECT province, state FROM question_provinces ORDER BY 1") == [
        ("33", "answered"),
        ("51", "timed_out"),
    ]
    assert [(row.peer, row.outcome) for row in store.audit_entries()] == [
        ("33", "sent"),
        ("51", "sent"),
        ("33", "answered"),
        ("51", "timed_out"),
    ]


def test_the_outcome_of_a_question_never_recorded_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        store.record_outcome(
            QuestionOutcome(b"q" * 16, NOW, "incomplete", None, 1.0, (ProvinceShare("33", "answered", 0.0),)), []
        )
    assert store.audit_entries() == ()


def test_a_question_may_go_to_nobody_and_end_with_nobody(store: Store, url: str) -> None:
    store.record_question(QuestionRecord(b"q" * 16, "case-1", NOW), [])
    store.record_outcome(QuestionOutcome(b"q" * 16, NOW, "incomplete", None, 1.0, ()), [])
    assert rows(url, "SELECT outcome FROM questions") == [("incomplete",)]
    assert store.audit_entries() == ()


def test_an_answered_question_without_its_requests_hash_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        store.record_answer(entry(request_sha256=b""))


def test_an_unknown_or_expired_handle_resolves_to_nothing(store: Store) -> None:
    store.record_answer(entry(), [handle(1, expires_at=NOW + timedelta(hours=1))])
    assert store.resolve_handle(b"?" * 16, NOW) is None
    assert store.resolve_handle(bytes([1]) * 16, NOW + timedelta(hours=1)) is None


def test_expired_handles_are_removed_when_the_store_forgets(store: Store) -> None:
    store.record_answer(entry(), [handle(1, expires_at=NOW + timedelta(hours=1)), handle(2)])
    store.forget(NOW + timedelta(hours=2))
    # Asked about the past, an expired but present row would still resolve.
    assert store.resolve_handle(bytes([1]) * 16, NOW) is None
    assert store.resolve_handle(bytes([2]) * 16, NOW) is not None


def test_the_database_never_holds_a_working_handle(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/node.db")
    store.record_answer(entry(), [handle(0xA7)])
    store.close()
    for file in tmp_path.iterdir():
        assert bytes([0xA7]) * 16 not in file.read_bytes()


def test_a_duplicate_handle_takes_its_audit_row_down_with_it(store: Store) -> None:
    store.record_answer(entry(1), [handle(1)])
    with pytest.raises(StoreError, match="already holds this record"):
        store.record_answer(entry(2), [handle(1)])
    assert [row.case_reference for row in store.audit_entries()] == ["case-1"]


def test_a_time_without_zone_is_refused_before_anything_is_written(store: Store) -> None:
    with pytest.raises(StatementError, match="without a time zone"):
        store.record_answer(entry(at=NOW.replace(tzinfo=None)))
    assert store.audit_entries() == ()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET outcome = 'refused'",
        "UPDATE audit SET number = 9",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 1",
    ],
)
def test_audit_rows_can_be_neither_changed_nor_deleted(store: Store, url: str, statement: str) -> None:
    store.record_answer(entry(1))
    with pytest.raises(Exception, match="append-only"):
        execute(url, statement)
    assert [row.outcome for row in store.audit_entries()] == ["answered"]


def test_an_audit_row_can_not_be_replaced_under_its_number(store: Store, url: str) -> None:
    store.record_answer(entry(1))
    verb = "INSERT OR REPLACE" if url.startswith("sqlite") else "TRUNCATE audit; INSERT"
    statement = f"{verb} INTO audit (number, at, direction, peer, method, outcome, request_sha256)"
    with pytest.raises(Exception, match="append-only"):
        execute(url, f"{statement} SELECT number, at, direction, '51', method, outcome, request_sha256 FROM audit")
    assert [row.peer for row in store.audit_entries()] == ["33"]


def test_audit_entries_are_read_in_pages(store: Store) -> None:
    for number in range(5):
        store.record_answer(entry(number))
    first = store.audit_entries(limit=3)
    assert first[-1].number is not None
    rest = store.audit_entries(since=first[-1].number)
    assert [row.case_reference for row in (*first, *rest)] == [f"case-{number}" for number in range(5)]


def test_four_processes_write_at_once_and_nothing_is_lost(url: str) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name, "25"], stdout=subprocess.DEVNULL) for name in "abcd"
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0, 0]
    store = open_store(url)
    rows = store.audit_entries()
    store.close()
    assert sorted(row.case_reference or "" for row in rows) == sorted(f"{n}-{i}" for n in "abcd" for i in range(25))
    assert len({row.number for row in rows}) == 100


def test_threads_of_one_store_write_at_once(url: str) -> None:
    store = open_store(url, wait_s=60)  # they wait for each other: the log has one end
    threads = [threading.Thread(target=store.record_answer, args=(entry(number),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.number for row in store.audit_entries()] == list(range(1, 17))
    store.close()


def test_opening_again_migrates_nothing_and_keeps_the_rows(url: str) -> None:
    first = open_store(url)
    first.record_answer(entry(1))
    first.close()
    second = open_store(url)
    assert len(second.audit_entries()) == 1
    second.close()


def test_the_migrations_build_exactly_the_tables_the_code_uses(store: Store, url: str) -> None:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": tables.VERSION_TABLE})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_head_names_the_newest_migration() -> None:
    assert ScriptDirectory(str(files("node.store") / "migrations")).get_current_head() == schema.HEAD


def test_a_database_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    open_store(url).close()
    execute(url, f"UPDATE {tables.VERSION_TABLE} SET version_num = '9001'")
    with pytest.raises(StoreError, match="schema version 9001, this Pulang knows up to"):
        open_store(url)
    execute(url, f"UPDATE {tables.VERSION_TABLE} SET version_num = '{schema.HEAD}'")
    open_store(url).close()


def test_a_database_of_another_program_is_refused_and_left_alone(url: str) -> None:
    execute(url, "CREATE TABLE employees (name varchar(20))")
    with pytest.raises(StoreError, match="tables of another program"):
        open_store(url)
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("employees",)]
        connection.close()


def test_every_sqlite_connection_syncs_each_commit(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/node.db").close()
    engine = make_engine(parse_url(f"sqlite:///{tmp_path}/node.db"), wait_s=1.5)
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    with engine.connect() as connection:
        values = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() for pragma in pragmas]
    engine.dispose()
    assert values == ["wal", 2, 1, 1500]


def test_the_embedded_database_is_private_to_its_user(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/node.db")
    store.record_answer(entry())
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()}
    store.close()
    assert modes == {"node.db": "0o600", "node.db-wal": "0o600", "node.db-shm": "0o600"}


@pytest.mark.parametrize(
    "bad",
    [
        "mysql://node:s3cret@host/db",
        "postgresql://node:s3cret@host:port/db",
        "s3cret",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////tmp/s3cret.db?mode=ro",
    ],
)
def test_an_unusable_url_is_refused_without_repeating_it(bad: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        open_store(bad)
    assert refusal.value.hint
    assert "s3cret" not in f"{refusal.value} {refusal.value.hint} {refusal.value.__cause__}"


def test_records_do_not_print_handles_or_record_ids() -> None:
    printed = repr(HandleRecord(b"SECRET-HANDLE", b"n", "33", "REC-4711", "g000001", NOW, NOW))
    assert "SECRET-HANDLE" not in printed
    assert "REC-4711" not in printed


def test_audit_rows_have_no_column_for_a_person() -> None:
    personal = {"name", "mother", "father", "birth", "place", "sex", "nik", "address", "photo"}
    columns = [column.name for table in tables.metadata.tables.values() for column in table.columns]
    assert not [column for column in columns if personal & set(column.split("_"))]


def test_a_copy_taken_by_sqlites_backup_while_the_node_writes_opens_with_every_row(tmp_path: Path) -> None:
    # What docs/operations.md tells operators to do; a plain copy of the file would lack what is in the log.
    store = open_store(f"sqlite:///{tmp_path}/node.db")
    store.record_answer(entry(1), [handle(1)])
    with closing(sqlite3.connect(tmp_path / "node.db")) as live, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        live.backup(copy)
    store.record_answer(entry(2))
    store.close()
    restored = open_store(f"sqlite:///{tmp_path}/copy.db")
    assert [row.case_reference for row in restored.audit_entries()] == ["case-1"]
    assert restored.resolve_handle(bytes([1]) * 16, NOW) == handle(1)
    restored.close()


@pytest.mark.postgres
def test_a_role_that_may_only_add_to_the_audit_is_enough_for_a_node(request: pytest.FixtureRequest) -> None:
    # The stricter set-up of docs/operations.md: the tables belong to another role.
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as owner_url:
        open_store(owner_url).close()
        execute(owner_url, "CREATE ROLE node LOGIN")
        for grant in (
            "GRANT SELECT ON pulang_version TO node",
            "GRANT SELECT, INSERT ON audit, audit_erasable, audit_nodes TO node",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON handles, questions, question_provinces, case_events TO node",
            "GRANT SELECT, INSERT, UPDATE ON review_items TO node",
            "GRANT SELECT, INSERT ON review_events TO node",
            "GRANT USAGE ON SEQUENCE review_items_number_seq, review_events_number_seq TO node",
            "GRANT USAGE ON SEQUENCE case_events_number_seq TO node",
        ):
            execute(owner_url, grant)
        node_url = owner_url.replace("postgres@", "node@")
        store = open_store(node_url)
        store.ping()
        store.record_answer(entry(1), [handle(1)])
        store.record_question(QuestionRecord(b"q" * 16, "case-1", NOW), [entry(2, direction=Direction.ASKED)])
        store.record_outcome(QuestionOutcome(b"q" * 16, NOW, "incomplete", None, 1.0, ()), [])
        assert len(store.audit_entries()) == 2
        store.close()
        with pytest.raises(ProgrammingError, match="permission denied"):
            execute(node_url, "DELETE FROM audit")
        execute(owner_url, "DROP OWNED BY node; DROP ROLE node")
