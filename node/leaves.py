"""How an audit row becomes a leaf of the log's hash tree: canonical JSON, salted commitments to what can be erased.

The format is fixed for good: a leaf that was hashed otherwise would make every log before it look forged.
"""

from __future__ import annotations

import json
from datetime import UTC
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from node.merkle import leaf_hash

if TYPE_CHECKING:
    from node.store.records import AuditEntry

ERASABLE: Final = ("case_reference", "operator_pseudonym", "nonce", "reason")
SALT_BYTES: Final = 16  # 128 bits: a commitment whose salt is erased cannot be tried out, however few its values
SALTS_BYTES: Final = SALT_BYTES * len(ERASABLE)
COMMITMENT_BYTES: Final = 32


def commitments(entry: AuditEntry, salts: bytes) -> bytes:
    """Return SHA-256(salt || value) of each field of ERASABLE, in its order.

    salts: SALTS_BYTES random bytes, SALT_BYTES a field. A value is its bytes after 0x01; no value is the empty string.
    """
    parts = []
    for place, name in enumerate(ERASABLE):
        value = getattr(entry, name)
        raw = b"" if value is None else b"\x01" + (value.encode() if isinstance(value, str) else value)
        parts.append(sha256(salts[place * SALT_BYTES : (place + 1) * SALT_BYTES] + raw).digest())
    return b"".join(parts)


def canonical(entry: AuditEntry, number: int, committed: bytes) -> bytes:
    """Return the bytes of a row that are hashed: sorted keys, no spaces, ASCII; times in UTC, bytes in hexadecimal."""
    value = {
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "calls": entry.calls,
        "commitments": {
            name: committed[place * COMMITMENT_BYTES : (place + 1) * COMMITMENT_BYTES].hex()
            for place, name in enumerate(ERASABLE)
        },
        "concerns": entry.concerns,
        "direction": str(entry.direction),
        "duration_ms": entry.duration_ms,
        "generation": entry.generation,
        "handles_given": entry.handles_given,
        "key_epoch": entry.key_epoch,
        "method": str(entry.method),
        "number": number,
        "outcome": str(entry.outcome),
        "peer": entry.peer,
        "purpose": None if entry.purpose is None else str(entry.purpose),
        "request_sha256": entry.request_sha256.hex(),
        "schema_fingerprint": None if entry.schema_fingerprint is None else entry.schema_fingerprint.hex(),
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def leaf(entry: AuditEntry, number: int, committed: bytes) -> bytes:
    """Return the hash of a row's leaf."""
    return leaf_hash(canonical(entry, number, committed))
