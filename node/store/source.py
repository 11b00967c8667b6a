"""Reading a registry out of somebody else's database: one table or one query, streamed, never written to."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sqlalchemy import Text, cast, create_engine, func, inspect, literal_column, make_url, select, text
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, NoSuchTableError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from node.errors import ConfigError, ImportRejectedError
from node.store.engine import place_of
from node.store.faults import FAULTS, classify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import URL, Connection, CursorResult, Engine, FromClause

TABLES_NAMED: Final = 20  # in the error that says which tables there are
_HINT: Final = "write it as postgresql://user@host/database; the password belongs into ~/.pgpass, not here"


@dataclass(frozen=True, slots=True)
class DatabaseRows:
    """An open table or query: its columns, and its rows once."""

    place: str
    columns: tuple[str, ...]
    _connection: Connection
    _table: str | None
    _result: CursorResult[Any] | None
    _query: str | None = None

    def batches(self, columns: Sequence[str], size: int) -> Iterator[list[tuple[str | None, ...]]]:
        """Yield the rows' `columns` as text, at most `size` rows at a time. Raises ImportRejectedError."""
        with _faults(self.place):
            if self._result is None:
                assert self._table is not None
                schema, _, name = self._table.rpartition(".")
                table = sql_table(name, *map(sql_column, columns), schema=schema or None)
                result = self._connection.execute(select(table), execution_options={"yield_per": size})
                order = range(len(columns))
            else:
                result, order = self._result.yield_per(size), [self.columns.index(name) for name in columns]  # type: ignore[assignment]
            for rows in result.partitions(size):
                yield [tuple(_as_text(row[place]) for place in order) for row in rows]

    def with_key(self, columns: Sequence[str], key: str, value: str) -> list[tuple[str | None, ...]]:
        """Return `columns`, as text, of up to two rows whose column `key` is `value`. Raises ImportRejectedError.

        Asked first by the key as it is, number or text, which an index of the table serves; only then by the key as
        text without the blanks around it, as an import reads it, which reads the whole table.
        """
        if self._table is not None:
            schema, _, name = self._table.rpartition(".")
            every = dict.fromkeys((*columns, key))
            found_in: FromClause = sql_table(name, *map(sql_column, every), schema=schema or None)
        else:
            assert self._query is not None
            found_in = text(self._query.strip().rstrip(";")).columns(*map(sql_column, self.columns)).subquery("source")
        column = found_in.c[key]
        conditions = [column == value, func.trim(cast(column, Text)) == value]
        if re.fullmatch(r"0|-?[1-9]\d{0,17}", value):
            conditions.insert(0, column == literal_column(value))
        with _faults(self.place):
            if self._result is not None:
                self._result.close()
            for condition in conditions:
                wanted = select(*(found_in.c[each] for each in columns)).where(condition).limit(2)
                try:
                    with self._connection.begin_nested():
                        rows = self._connection.execute(wanted).all()
                except DBAPIError:
                    if condition is conditions[-1]:
                        raise
                    continue  # a key of another type than this way's; the last one casts it
                if rows:
                    return [tuple(map(_as_text, row)) for row in rows]
        return []


@contextmanager
def open_rows(url_text: str, *, table: str | None, query: str | None) -> Iterator[DatabaseRows]:
    """Connect and find the columns. Exactly one of `table` ("schema.name" is allowed) and `query` says what to read.

    Raises ConfigError for a URL, driver or table that cannot be used, ImportRejectedError when the database fails.
    Neither ever repeats the URL's user or password.
    """
    if (table is None) == (query is None):
        raise ConfigError("a database is read by --table NAME or by --query SQL: give one of them")
    url = _parse(url_text)
    place = place_of(url)
    engine = _engine(_read_only(url))
    try:
        with _faults(place), engine.connect() as connection:
            if query is not None:
                result = connection.execute(text(query), execution_options={"stream_results": True})
                columns = _keys(result)
                if len(set(columns)) < len(columns):
                    raise ConfigError("the query names two columns alike", hint="give each its own name with AS")
                yield DatabaseRows(place, columns, connection, None, result, query)
            else:
                assert table is not None
                yield DatabaseRows(place, _columns_of(engine, table, place), connection, table, None)
    finally:
        engine.dispose()


def _parse(url_text: str) -> URL:
    try:
        url = make_url(url_text)
    except (ArgumentError, ValueError):
        raise ConfigError("the database URL cannot be read", hint=_HINT) from None
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        raise ConfigError("there is no SQLite database at that path", hint="sqlite:////absolute/path/file.db")
    return url


def _read_only(url: URL) -> URL:
    """Let SQLite's driver open the file for reading only. PostgreSQL is told by the connection."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return url
    return url.set(database=f"file:{quote(str(Path(url.database).absolute()))}", query={"mode": "ro", "uri": "true"})


def _engine(url: URL) -> Engine:
    try:
        engine = create_engine(url, hide_parameters=True)
    except (NoSuchModuleError, ModuleNotFoundError, ArgumentError):
        raise ConfigError(
            f"no driver for databases of type {url.drivername} is installed",
            hint="install the driver SQLAlchemy names for it into this environment, or export the table as CSV",
        ) from None
    if url.get_backend_name() == "postgresql":
        return engine.execution_options(postgresql_readonly=True)
    return engine


def _columns_of(engine: Engine, table: str, place: str) -> tuple[str, ...]:
    schema, _, name = table.rpartition(".")
    found = inspect(engine)
    try:
        return tuple(str(each["name"]) for each in found.get_columns(name, schema=schema or None))
    except NoSuchTableError:
        names = sorted([*found.get_table_names(schema=schema or None), *found.get_view_names(schema=schema or None)])
        raise ConfigError(
            f"the database {place} has no table {table}", hint=f"it has: {', '.join(names[:TABLES_NAMED]) or 'none'}"
        ) from None


def _keys(result: CursorResult[Any]) -> tuple[str, ...]:
    try:
        return tuple(result.keys())
    except ResourceClosedError:
        raise ConfigError("the SQL returns no rows", hint="write a SELECT") from None


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@contextmanager
def _faults(place: str) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        kind, code = classify(error)
        what = FAULTS[kind][0] if kind != "unknown" else "refused the query"
        # Not `from error`: a driver's text may quote a row.
        raise ImportRejectedError(
            f"the database {place} {what}" + (f" ({code})" if code else ""),
            hint="check that it runs, what the user may read, and the SQL; the old generation still answers",
        ) from None
