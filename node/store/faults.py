"""Database errors become StoreError here, once: what happened, why, what next; never SQL, values or passwords."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from node.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Kind of fault -> (what happened, what next).
FAULTS: Final[dict[str, tuple[str, str]]] = {
    "locked": ("is locked by another process", "find what holds it (a backup, an open shell), end it, and try again"),
    "full": ("has no room left on its disk", "free some space; the node goes on by itself"),
    "read-only": (
        "is read-only",
        "make the folder and the database writable for the node's user; a PostgreSQL standby cannot be used",
    ),
    "gone": (
        "is gone or cannot be reached",
        "check `database_url` in node.toml, that the file or server is there, and its permissions",
    ),
    "denied": ("refused the login, or lacks a permission", "check user, password and rights named by `database_url`"),
    "damaged": (
        "is damaged or is no database",
        "put back the last backup; keep the broken file for whoever looks at it",
    ),
    "conflict": ("already holds this record, or it breaks a rule of the schema", "this is a bug: please report it"),
    "unknown": ("failed", "look into the database's own log"),
}
_SHARING: Final = "SQLITE_IOERR_SHMSIZE"  # no room for the file by which processes share the database
# Primary result codes; the extended ones carry them in their low byte. https://sqlite.org/rescode.html
SQLITE_KINDS: Final = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_CANTOPEN: "gone",
    sqlite3.SQLITE_IOERR: "gone",
    sqlite3.SQLITE_PERM: "denied",
    sqlite3.SQLITE_AUTH: "denied",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_CONSTRAINT: "conflict",
}
# Longest prefix first. https://www.postgresql.org/docs/15/errcodes-appendix.html
SQLSTATE_KINDS: Final = (
    ("25006", "read-only"),
    ("3D000", "gone"),
    ("42501", "denied"),
    ("40P01", "locked"),
    ("53100", "full"),
    ("55P03", "locked"),
    ("57014", "locked"),
    ("08", "gone"),
    ("23", "conflict"),
    ("28", "denied"),
    ("53", "full"),
    ("57P", "gone"),
    ("XX", "damaged"),
)


class SharingError(StoreError):
    """The disk has no room for the file by which processes share a SQLite database."""


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise the database's faults as StoreError naming `place` (see place_of). Misuse of SQLAlchemy stays a bug."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        kind, code = classify(error)
        if code == _SHARING:
            what, hint = FAULTS[kind]
            raise SharingError(f"the database {place} {what} ({code})", hint=hint) from None
        # Not `from error`: a driver's text quotes the row that failed, and a traceback in a log would print it.
        raise fault(kind, place, code) from None


def fault(kind: str, place: str, code: str | None = None) -> StoreError:
    """Make the StoreError of one kind of FAULTS; code: the database's own name of it, for whoever looks closer."""
    what, hint = FAULTS[kind]
    return StoreError(f"the database {place} {what}" + (f" ({code})" if code else ""), hint=hint)


def classify(error: DBAPIError | PoolTimeout) -> tuple[str, str | None]:
    """Return the kind of FAULTS an error is, and the database's own code for it."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        name: str | None = getattr(cause, "sqlite_errorname", None)
        primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        return "full" if name == _SHARING else SQLITE_KINDS.get(primary, "unknown"), name
    state: str | None = getattr(cause, "sqlstate", None)
    if state:
        return next((kind for prefix, kind in SQLSTATE_KINDS if state.startswith(prefix)), "unknown"), state
    # No code: the connection broke, could not be made, or none of the pool became free in time.
    return "gone", None
