# ruff: noqa: F811 - fixtures are imported, and asked for by their names
"""Faults of the database, injected for real: each is one clear refusal, and nothing acknowledged is ever lost."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, select, text

from node.errors import StoreError
from node.store import Store, open_store, schema
from node.store.engine import parse_url
from tests.postgres import postgres_server  # noqa: F401 - the fixture
from tests.stores import NOW, WRITER, entry, execute, handle, rows, store, url  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import PostgresServer

# Opens a database given in argv, appends one row, says what came of it.
ATTEMPT = """
import sys
from datetime import UTC, datetime
from node.errors import StoreError
from node.store import AuditEntry, Direction, open_store
now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
try:
    store = open_store(sys.argv[1], wait_s=1)
    store.record_answer(AuditEntry(now, Direction.ANSWERED, "33", "ask", "answered", b"x" * 32))
    store.ping()
    print("written")
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 20])
def test_kill_9_after_an_acknowledged_answer_loses_no_row(url: str, acknowledged: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url, "a", "100000"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(acknowledged):
        assert writer.stdout.readline()
    writer.kill()  # in the middle of whatever write it has got to
    seen = acknowledged + len(writer.stdout.read().splitlines())
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL

    survivor = open_store(url)
    written = survivor.audit_entries(limit=100_000)
    survivor.close()
    # At most one answer more than acknowledged: the one it had committed and not yet reported.
    assert [row.case_reference for row in written] == [f"a-{i}" for i in range(len(written))]
    assert len(written) in {seen, seen + 1}
    assert rows(url, "SELECT count(*) FROM handles") == [(len(written),)]


def test_kill_9_in_the_migration_leaves_a_database_the_next_start_completes(url: str) -> None:
    killed_inside = (
        "import os, signal, sys\n"
        "from alembic import op\n"
        "from node.store import open_store\n"
        "op.create_index = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_store(sys.argv[1])\n"
    )
    assert subprocess.run([sys.executable, "-c", killed_inside, url], check=False).returncode == -signal.SIGKILL
    store = open_store(url)
    store.record_answer(entry())
    store.close()


def test_four_processes_open_an_empty_database_at_once(url: str) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name, "1"], stdout=subprocess.PIPE) for name in "abcd"
    ]
    assert [opener.communicate()[0].strip() for opener in openers] == [b"0"] * 4
    assert rows(url, "SELECT count(*) FROM audit") == [(4,)]


def test_opening_waits_for_another_process_that_migrates(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="is locked by another process"):
            open_store(url, wait_s=0.2)
        os.close(descriptor)
    else:
        engine = create_engine(parse_url(url))
        with engine.connect() as holder:
            holder.execute(select(func.pg_advisory_xact_lock(schema.ADVISORY_LOCK)))
            with pytest.raises(StoreError, match="is locked by another process"):
                open_store(url, wait_s=0.2)
        engine.dispose()
    open_store(url, wait_s=0.2).close()


def test_a_locked_database_is_named_and_works_again_when_free(store: Store, url: str) -> None:
    engine = create_engine(parse_url(url))
    with engine.connect() as holder:
        if url.startswith("sqlite"):
            holder.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            holder.execute(text("LOCK TABLE audit, handles IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreError, match="is locked by another process") as refusal:
            store.record_answer(entry())
        with pytest.raises(StoreError, match="is locked by another process"):
            store.ping()
    engine.dispose()
    assert "end it" in (refusal.value.hint or "")
    store.record_answer(entry())
    store.ping()
    assert len(store.audit_entries()) == 1


def test_a_deleted_database_file_takes_no_more_answers(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/node.db")
    store.record_answer(entry(1))
    (tmp_path / "node.db").unlink()
    # SQLite itself would go on writing into the unlinked file and report success.
    with pytest.raises(StoreError, match="is gone"):
        store.record_answer(entry(2))
    with pytest.raises(StoreError, match="is gone"):
        store.audit_entries()
    with pytest.raises(StoreError, match="is gone"):
        store.ping()
    store.close()


def test_a_database_file_replaced_under_the_node_takes_no_more_answers(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/node.db")
    shutil.copy(tmp_path / "node.db", tmp_path / "copy.db")
    (tmp_path / "copy.db").replace(tmp_path / "node.db")
    with pytest.raises(StoreError, match="is gone"):
        store.record_answer(entry())
    store.close()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere/node\.db is gone"):
        open_store(f"sqlite:///{tmp_path}/nowhere/node.db")


@pytest.mark.parametrize(
    "content", [b"this is a text file, not a database " * 200, b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged or is no database"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_torn_database_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    open_store(f"sqlite:///{path}").close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="is damaged or is no database"):
        open_store(f"sqlite:///{path}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, one megabyte wide."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def test_a_full_disk_is_named_loses_nothing_and_heals_alone(small_disk: Path) -> None:
    store = open_store(f"sqlite:///{small_disk}/node.db")
    ballast = small_disk / "ballast"
    fill(ballast)
    written = 0
    with pytest.raises(StoreError, match="no room left") as refusal:  # noqa: PT012 - some rows still fit
        while written < 10_000:
            store.record_answer(entry(written % 256))
            written += 1
    assert "free some space" in (refusal.value.hint or "")
    assert len(store.audit_entries(limit=10_000)) == written
    ballast.unlink()
    store.record_answer(entry())
    assert len(store.audit_entries(limit=10_000)) == written + 1
    store.close()


def test_a_database_that_nobody_uses_can_be_read_on_a_full_disk(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk}/node.db"
    store = open_store(url)
    store.record_answer(entry())
    store.close()
    fill(small_disk / "ballast")
    with pytest.raises(StoreError, match="has no room left on its disk"):
        open_store(url, serving=True)  # a node would keep everybody else out
    reader = open_store(url)
    assert len(reader.audit_entries()) == 1
    assert sum(1 for _ in reader.dump()) > 1
    with pytest.raises(StoreError, match="has no room left on its disk"):  # noqa: PT012 - some rows may still fit
        for _ in range(50):
            reader.record_answer(entry())
    reader.close()


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "frozen"
    folder.mkdir()
    open_store(f"sqlite:///{folder}/node.db").close()
    empty = tmp_path / "empty"
    empty.mkdir()
    for frozen in (folder, empty):
        assert attempt_in_read_only(frozen) == f"the database {frozen}/node.db is read-only\n"


def attempt_in_read_only(folder: Path) -> str:
    """Return what a writer says in `folder` while nobody may write there (root only heeds a mount)."""
    url = f"sqlite:///{folder}/node.db"
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            return subprocess.run(
                [sys.executable, "-c", ATTEMPT, url], check=True, capture_output=True, text=True
            ).stdout
        finally:
            folder.chmod(0o755)
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        return subprocess.run([sys.executable, "-c", ATTEMPT, url], check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.postgres
def test_a_crashed_server_is_named_and_loses_no_acknowledged_row(request: pytest.FixtureRequest) -> None:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as address:
        store = open_store(address, wait_s=1.0)
        store.record_answer(entry(1), [handle(1)])
        server.stop("immediate")
        try:
            with pytest.raises(StoreError, match="is gone or cannot be reached"):
                store.record_answer(entry(2))
            with pytest.raises(StoreError, match="is gone or cannot be reached"):
                open_store(address)
        finally:
            server.start()
        assert [row.case_reference for row in store.audit_entries()] == ["case-1"]
        assert store.resolve_handle(bytes([1]) * 16, NOW) is not None
        store.record_answer(entry(3))  # without a restart of the node
        store.close()


@pytest.mark.postgres
def test_a_read_only_server_is_named(request: pytest.FixtureRequest) -> None:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as address:
        open_store(address).close()
        database = address.split("/")[3].split("?")[0]
        with server.admin() as admin:
            admin.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        store = open_store(address)
        for attempt in (store.ping, lambda: store.record_answer(entry())):
            with pytest.raises(StoreError, match="is read-only"):
                attempt()
        store.close()


@pytest.mark.postgres
def test_a_refused_login_shows_no_password(request: pytest.FixtureRequest) -> None:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with pytest.raises(StoreError) as refusal:
        open_store(f"postgresql://nobody:s3cret-password@/postgres?host={server.folder}")
    assert "s3cret" not in f"{refusal.value!r} {refusal.value.hint} {refusal.value.__cause__!r}"
    assert refusal.value.hint


def test_an_error_shows_no_value_of_the_row(store: Store) -> None:
    store.record_answer(entry(1), [handle(1, expires_at=NOW + timedelta(days=9))])
    with pytest.raises(StoreError) as refusal:
        store.record_answer(entry(2, case_reference="CANARY-CASE"), [handle(1)])
    assert "CANARY" not in f"{refusal.value!r} {refusal.value.hint} {refusal.value.__cause__!r}"
    assert refusal.value.__suppress_context__  # nor does a logged traceback print the driver's text


def test_a_sqlite_file_of_another_program_is_not_even_switched_to_wal(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pulang_versions (v)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before
    execute(f"sqlite:///{path}", "DROP TABLE pulang_versions")
    open_store(f"sqlite:///{path}").close()
