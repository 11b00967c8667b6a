"""What one member tells another: its metadata's versions, its clock, and how it sees the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from node.clock import Offset
    from node.pki.repository import Versions


@dataclass(frozen=True, slots=True)
class Told:
    """A peer's versions, and how far its clock stands from ours; None when it does not tell."""

    versions: Versions
    offset: Offset | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a node sees a caller, and by what it would answer it."""

    serial: str
    """Of the certificate the caller has shown, hexadecimal."""
    ends_at: datetime
    """When that certificate ends, or one above it."""
    list_version: int
    list_ends_at: datetime
    schema_fingerprint: bytes
    key_epochs: frozenset[int]
    """In which it has an index."""
    is_ready: bool
