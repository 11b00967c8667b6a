"""Checkpoints of audit logs as text: C2SP tlog-checkpoint, signed as C2SP signed-note and tlog-cosignature say.

    spiffe://fkd-mpu/province/35/audit          origin
    1204                                        size: rows in the log
    YV4c...=                                    root of the hash tree over them, base64
    time 2026-11-22T11:20:00Z                   extension line: when it was signed
                                                an empty line
    — spiffe://fkd-mpu/province/35/audit 3f9a...   the log's signature, then those of its witnesses
Sources: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note, https://c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from node.errors import TrustError
from node.merkle import HASH_BYTES

MAX_NOTE_BYTES: Final = 8 * 1024  # a checkpoint has 300 bytes, a signature line 150
MAX_SIZE: Final = 2**62
KEY_BYTES: Final = 32  # an Ed25519 public key
SIGNATURE_BYTES: Final = 64
TIME_BYTES: Final = 8
SIGNED_BY_LOG: Final = b"\x01"  # signed-note's type of a plain Ed25519 signature
SIGNED_BY_WITNESS: Final = b"\x04"  # tlog-cosignature's type of a timestamped one
_DASH: Final = "\u2014 "
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log at one moment."""

    origin: str
    size: int
    root: bytes
    at: datetime

    def body(self) -> bytes:
        """Return the text that is signed."""
        root = base64.b64encode(self.root).decode("ascii")
        return f"{self.origin}\n{self.size}\n{root}\ntime {self.at.astimezone(UTC):{_TIME}}\n".encode()


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. value: what follows the key's 4 bytes."""

    name: str
    key_hash: bytes
    value: bytes

    def line(self) -> str:
        """Return the line with its end."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_hash + self.value).decode('ascii')}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint with the signatures under it, none of them verified yet."""

    checkpoint: Checkpoint
    body: bytes
    signatures: tuple[Signature, ...]


def origin_of(spiffe_id: str) -> str:
    """Return the name of a province's audit log, and of its key."""
    return f"{spiffe_id}/audit"


def key_hash(name: str, kind: bytes, public_key: bytes) -> bytes:
    """Return the 4 bytes by which a signature line names its key. Source: signed-note, "Signatures"."""
    return sha256(name.encode() + b"\n" + kind + public_key).digest()[:4]


def cosigned_bytes(body: bytes, at_s: int) -> bytes:
    """Return what a witness signs. Source: tlog-cosignature, "Format"."""
    return b"cosignature/v1\ntime %d\n" % at_s + body


def parse_note(data: bytes) -> Note:
    """Read a note; every part has one form only. Raises TrustError, never repeating what it read."""
    try:
        return _parse(data)
    except (ValueError, binascii.Error, IndexError):
        raise TrustError("not a checkpoint of an audit log", hint="copy it again; it may be half-written") from None


def parse_signature(line: str) -> Signature:
    """Read one signature line without its end. Raises ValueError."""
    if not line.startswith(_DASH):
        raise ValueError("no signature line")
    name, _, text = line.removeprefix(_DASH).rpartition(" ")
    raw = base64.b64decode(text, validate=True)
    if not name or " " in name or not name.isprintable() or not 4 + SIGNATURE_BYTES <= len(raw) <= 128:
        raise ValueError("no signature line")
    return Signature(name, raw[:4], raw[4:])


def _parse(data: bytes) -> Note:
    if len(data) > MAX_NOTE_BYTES:
        raise ValueError("too long")
    body, empty, signatures = data.partition(b"\n\n")
    body += b"\n"
    lines = body.decode("utf-8").split("\n")
    origin, size, root_text, time_text = lines[:4]
    root = base64.b64decode(root_text, validate=True)
    if not size.isascii() or not size.isdigit():
        raise ValueError("no size")
    checkpoint = Checkpoint(origin, int(size), root, datetime.strptime(time_text, f"time {_TIME}").replace(tzinfo=UTC))
    if not empty or len(root) != HASH_BYTES or checkpoint.size > MAX_SIZE or checkpoint.body() != body:
        raise ValueError("not in the one form a checkpoint has")
    *whole, rest = signatures.decode("utf-8").split("\n")
    if rest or not whole:
        raise ValueError("a signature line without its end")
    return Note(checkpoint, body, tuple(parse_signature(line) for line in whole))
