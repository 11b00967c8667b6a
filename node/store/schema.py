"""Brings a database to the present schema version, or refuses one that is not ours."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, inspect, select

from node.errors import StoreError
from node.store.engine import NO_TRANSACTION, READ
from node.store.faults import fault
from node.store.tables import VERSION_TABLE, version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

HEAD: Final = "0007"  # newest migration under migrations/versions; a test compares
ADVISORY_LOCK: Final = 0x50554C414E47  # "PULANG": any number of our own
_LOCK_POLL_S: Final = 0.05

# Alembic keeps its context in module globals: one migration at a time in a process.
_in_process = threading.Lock()


def migrate(engine: Engine, path: Path | None, place: str, *, wait_s: float) -> None:
    """Bring the database to HEAD under a lock, so that processes opening it at once wait for each other.

    path: the SQLite file, created 0600 if absent; None for PostgreSQL. Raises StoreError for a database of a newer
    version or of somebody else.
    """
    with _in_process:
        if path is None:
            with engine.begin() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                _upgrade(connection, place)
            return
        with _folder_lock(path.parent, place, wait_s=wait_s):
            _create_private(path, place)
            # Look before writing: switching to WAL would already change a stranger's file.
            with engine.connect().execution_options(**READ) as connection:
                behind = _stored_version(connection, place) != HEAD
            if behind:
                with engine.connect().execution_options(**NO_TRANSACTION) as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # stays in the file
                with engine.begin() as connection:
                    _upgrade(connection, place)


def _upgrade(connection: Connection, place: str) -> None:
    if _stored_version(connection, place) == HEAD:
        return
    # Imported late: Alembic costs a node's start 0.2 s that an up-to-date database need not pay.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(files("node.store") / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _stored_version(connection: Connection, place: str) -> str | None:
    """Return the database's schema version, None when it is empty. Raises StoreError when it is not ours to touch."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if VERSION_TABLE not in tables:
        raise StoreError(
            f"the database {place} holds tables of another program",
            hint="give the node a database (in PostgreSQL: or a schema) of its own; nothing was changed",
        )
    stored: str | None = connection.execute(select(version.c.version_num)).scalar_one_or_none()
    if stored is None or stored > HEAD:
        raise StoreError(
            f"the database {place} has schema version {stored}, this Pulang knows up to {HEAD}",
            hint="install the Pulang version that wrote it, or a newer one; nothing was changed",
        )
    return stored


@contextmanager
def _folder_lock(folder: Path, place: str, *, wait_s: float) -> Iterator[None]:
    """Hold an exclusive flock on the database's folder.

    SQLite's own lock cannot serve: switching to WAL takes it in a way that does not wait. The database file
    cannot either: closing a second descriptor of it would drop SQLite's locks on it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise fault("gone", place) from None
    try:
        for _ in range(max(1, round(wait_s / _LOCK_POLL_S))):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOCK_POLL_S)
        else:
            raise fault("locked", place)
        yield
    finally:
        os.close(descriptor)


def _create_private(path: Path, place: str) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        # Opening a read-only SQLite database in WAL mode fails with "cannot open": say the true reason first.
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise fault("read-only", place) from None
    except OSError as error:
        kinds = {errno.EACCES: "read-only", errno.EROFS: "read-only", errno.ENOSPC: "full"}
        raise fault(kinds.get(error.errno or 0, "gone"), place) from None
