"""A whole database as lines of JSON, and back: the same form whatever database it came from or goes to.

First line: {"schema": HEAD, "tables": [...]}. Then one line per row: [table, {column: value}], bytes as hexadecimal,
times in ISO 8601, tables in an order in which every row's references are there before it. Last line: {"rows": count}.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import LargeBinary, delete, func, insert, select, text

from node.errors import ConfigError, StoreError
from node.store.schema import HEAD
from node.store.tables import UtcTime, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection, Table

BATCH: Final = 1000
_HINT: Final = "take another backup: this one is cut off or was changed"


def write_rows(connection: Connection) -> Iterator[bytes]:
    """Yield a database's lines, as of one moment: the connection's transaction must see a snapshot."""
    tables = metadata.sorted_tables
    yield _line({"schema": HEAD, "tables": [table.name for table in tables]})
    count = 0
    for table in tables:
        rows = connection.execution_options(yield_per=BATCH).execute(select(table).order_by(*table.primary_key.columns))
        for row in rows.mappings():
            count += 1
            yield _line([table.name, {name: _plain(value) for name, value in row.items()}])
    yield _line({"rows": count})


def read_rows(connection: Connection, lines: Iterable[bytes]) -> int:
    """Fill a new database from its lines; returns how many rows.

    Raises ConfigError for lines that are cut off, changed or of another schema version; StoreError when the database
    already holds records. The caller rolls back then.
    """
    tables = {table.name: table for table in metadata.sorted_tables}
    source = iter(lines)
    header = _parse(next(source, b""))
    if not isinstance(header, dict) or header.get("schema") != HEAD:
        raise ConfigError(
            f"the backup's database has another schema version than this Pulang's, {HEAD}",
            hint="restore it with the Pulang version that made it, then install this one",
        )
    _make_empty(connection, tables.values())
    count, end = 0, None
    rows = (item for line in source if (item := _parse(line)) is not None)
    for name, group in groupby(rows, key=_table_of):
        if name is None:
            end = next(group)
            break
        if name not in tables:
            raise ConfigError("the backup's database has a table this Pulang does not know", hint=_HINT)
        count += _insert(connection, tables[name], (item[1] for item in group))
    if end != {"rows": count} or next(source, None) is not None:
        raise ConfigError(f"the backup's database ends early or late: {count} rows were read", hint=_HINT)
    _set_sequences(connection, tables.values())
    return count


def _table_of(item: Any) -> str | None:
    """Return which table a line is a row of, None for the last line."""
    return item[0] if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) else None


def _make_empty(connection: Connection, tables: Iterable[Table]) -> None:
    for table in reversed(list(tables)):
        if table.name.startswith(("audit", "review")) or table.name in {"questions", "handles"}:
            if connection.execute(select(table).limit(1)).first() is not None:
                raise StoreError(
                    "the database holds records already: a backup is restored into an empty one only",
                    hint="name an empty database; nothing was changed",
                )
        else:
            connection.execute(delete(table))  # rows that every new database begins with


def _insert(connection: Connection, table: Table, rows: Iterator[Any]) -> int:
    readers = {column.name: _reader(column.type) for column in table.columns}
    count = 0
    batch: list[dict[str, Any]] = []
    for row in rows:
        try:
            batch.append({name: None if row[name] is None else read(row[name]) for name, read in readers.items()})
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ConfigError(f"a row of the backup's table {table.name} cannot be read", hint=_HINT) from None
        if len(row) != len(readers):
            raise ConfigError(f"a row of the backup's table {table.name} has unknown columns", hint=_HINT)
        if len(batch) == BATCH:
            count += _flush(connection, table, batch)
    return count + _flush(connection, table, batch)


def _flush(connection: Connection, table: Table, batch: list[dict[str, Any]]) -> int:
    written = len(batch)
    if written:
        try:
            connection.execute(insert(table), batch)
        except (TypeError, ValueError, OverflowError):  # of the driver: a text or a number no database holds
            raise ConfigError(f"a row of the backup's table {table.name} cannot be kept", hint=_HINT) from None
        batch.clear()
    return written


def _set_sequences(connection: Connection, tables: Iterable[Table]) -> None:
    """Let PostgreSQL's counters go on after the highest number restored; SQLite's do so by themselves."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        column = table.autoincrement_column
        if column is None:
            continue
        sequence = connection.execute(select(func.pg_get_serial_sequence(table.name, column.name))).scalar_one()
        highest = connection.execute(select(func.max(column))).scalar_one()
        if sequence and highest is not None:
            connection.execute(text("SELECT setval(:name, :value)"), {"name": sequence, "value": highest})


def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return what reads a column's values; it raises TypeError or ValueError. SQLite itself would take any kind."""
    if isinstance(kind, LargeBinary):
        return bytes.fromhex
    if isinstance(kind, UtcTime):
        return _moment
    python: type = kind.python_type

    def same(value: Any) -> Any:
        if type(value) is not python and not (python is float and type(value) is int):
            raise TypeError
        return value

    return same


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment.astimezone(UTC)  # here, where what lies outside the calendar is refused


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case datetime():
            return value.isoformat()
        case _:
            return value


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        raise ConfigError("a line of the backup's database is not JSON", hint=_HINT) from None
