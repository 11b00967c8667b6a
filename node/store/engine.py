"""From a database URL to an engine whose commits are durable: SQLite or PostgreSQL, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from node.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

# Execution option: how a connection's transaction begins on SQLite. Ignored by PostgreSQL.
SQLITE_BEGIN: Final = "pulang_begin"
READ: Final = {SQLITE_BEGIN: "BEGIN"}
NO_TRANSACTION: Final = {SQLITE_BEGIN: ""}
_URL_HINT = "write `database_url` as sqlite:////absolute/path/node.db or postgresql://user@host/database"


def parse_url(text: str) -> URL:
    """Return the URL with its driver chosen.

    Raises ConfigError, which never repeats the URL: it may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError("the database URL cannot be read", hint=_URL_HINT) from None
    match url.drivername:
        case "sqlite" | "sqlite+pysqlite":
            if not url.database or url.database == ":memory:" or url.query:
                raise ConfigError("a node's SQLite database must be a plain file path", hint=_URL_HINT)
            return url.set(drivername="sqlite", database=str(Path(url.database).absolute()))
        case "postgresql" | "postgresql+psycopg":
            return url.set(drivername="postgresql+psycopg")
        case _:
            raise ConfigError(f"databases of type {url.get_backend_name()} are not supported", hint=_URL_HINT)


def sqlite_path(url: URL) -> Path | None:
    """Return the database's file, None for PostgreSQL."""
    return Path(url.database) if url.drivername == "sqlite" and url.database else None


def place_of(url: URL) -> str:
    """Return the words in which errors name a database: path, or host and database; no user, no password."""
    path = sqlite_path(url)
    return str(path) if path else f"{url.database or 'default'} at {url.host or url.query.get('host') or 'localhost'}"


def make_engine(url: URL, *, wait_s: float, alone: bool = False) -> Engine:
    """Make an engine. wait_s: how long a writer waits for another before the database counts as locked.

    alone: of a SQLite database, keep every other process out; it then needs no shared-memory file beside it.
    """
    if url.drivername == "sqlite":
        more = {"pool_size": 1, "max_overflow": 0} if alone else {}
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": wait_s}, **more)
        if alone:  # before anything else is read: https://sqlite.org/wal.html, "Use of WAL Without Shared-Memory"
            event.listen(engine, "connect", _keep_alone)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,  # a restarted server costs one round trip, not one failed answer
        pool_timeout=wait_s,
        connect_args={"connect_timeout": max(2, round(wait_s))},
    )
    wait_ms = round(wait_s * 1000)

    def prepare_postgresql(connection: Any, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
        connection.execute("SET synchronous_commit = on")  # an answer leaves only after its audit row is safe
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute(f"SET lock_timeout = {wait_ms}")
        connection.execute(f"SET statement_timeout = {2 * wait_ms}")
        connection.commit()

    event.listen(engine, "connect", prepare_postgresql)
    return engine


def _keep_alone(connection: Any, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")


def at_one_moment(connection: Connection) -> Connection:
    """Return the connection for reading: all its queries see the database as of the first one."""
    if connection.dialect.name == "postgresql":
        return connection.execution_options(isolation_level="REPEATABLE READ")
    return connection.execution_options(**READ)


def _prepare_sqlite(connection: Any, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own would take the lock too late
    connection.execute("PRAGMA synchronous = FULL")  # in WAL, anything less may lose the last commits at power loss
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # an expired handle leaves no bytes behind


def _begin_sqlite(connection: Connection) -> None:
    # A writer that begins as a reader can be refused at its first write, without waiting: take the lock at once.
    begin = connection.get_execution_options().get(SQLITE_BEGIN, "BEGIN IMMEDIATE")
    if begin:
        connection.exec_driver_sql(begin)
