"""A handle comes home: its code, read out by the asking province's caseworker, becomes a record id once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matching.question import HANDLE_BYTES
from node.errors import ConfigError
from node.store.records import Closed

if TYPE_CHECKING:
    from node.store.records import HandleRecord, Opening

_SPACERS: Final = str.maketrans("", "", " -:.")


def read_handle(text: str) -> bytes:
    """Read a handle as it is shown or read out: hexadecimal, with or without spaces and hyphens. Raises ConfigError."""
    digits = text.translate(_SPACERS)
    try:
        handle = bytes.fromhex(digits)
    except ValueError:
        handle = b""
    if len(handle) != HANDLE_BYTES:
        raise ConfigError(
            f"the code must be {2 * HANDLE_BYTES} hexadecimal digits",
            hint="have it read out again, as `pulang find` shows it",
        )
    return handle


def why_closed(record: HandleRecord | None, opening: Opening) -> Closed | None:
    """Return why a handle is not opened; None when it is known, the asker's, of its case, in time and unused."""
    if record is None:
        return Closed.UNKNOWN
    if record.peer != opening.peer:
        return Closed.WRONG_PEER
    if record.case_reference is None or record.case_reference != opening.case_reference:
        return Closed.WRONG_CASE
    if record.expires_at <= opening.at:
        return Closed.EXPIRED
    return Closed.OPENED_BEFORE if record.opened_at is not None else None
