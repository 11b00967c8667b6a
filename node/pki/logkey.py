"""The key with which a node signs its audit log's checkpoints, and cosigns other provinces'."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from node.checkpoint import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    SIGNED_BY_LOG,
    SIGNED_BY_WITNESS,
    TIME_BYTES,
    Checkpoint,
    Note,
    Signature,
    cosigned_bytes,
    key_hash,
)
from node.errors import ConfigError, TrustError
from node.files import PRIVATE, make_private_folder, read_private, write_atomic
from node.pki.keys import parse_private_key

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

MAX_KEY_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class LogKey:
    """An Ed25519 key of its own: a certificate's key is new every week, a log must be checked for years."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        """The raw public key."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, checkpoint: Checkpoint) -> bytes:
        """Return the checkpoint as a signed note."""
        body = checkpoint.body()
        line = Signature(self.name, key_hash(self.name, SIGNED_BY_LOG, self.public), self.key.sign(body)).line()
        return body + b"\n" + line.encode()

    def cosign(self, note: Note, at: datetime) -> str:
        """Return a witness's signature line over another log's checkpoint, with its end."""
        at_s = int(at.timestamp())
        value = at_s.to_bytes(TIME_BYTES, "big") + self.key.sign(cosigned_bytes(note.body, at_s))
        return Signature(self.name, key_hash(self.name, SIGNED_BY_WITNESS, self.public), value).line()


def load_log_key(path: Path, name: str) -> LogKey:
    """Load the node's log key; make it first where there is none, so that a log is signed from its first minute.

    Raises ConfigError for a broken key, TrustError for one that others may read.
    """
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        make_private_folder(path.parent)
        try:
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_atomic(path, pem, mode=PRIVATE)
        except ConfigError:
            pass  # another process was faster: its key is the log's
    loaded = parse_private_key(read_private(path, limit=MAX_KEY_BYTES))
    if not isinstance(loaded, Ed25519PrivateKey):
        raise ConfigError(
            f"{path} is not a private key of the kind Ed25519",
            hint="put it back from a backup; without it, move it away: a new log begins, and its witnesses are told",
        )
    return LogKey(name, loaded)


def verify_log_signature(note: Note, public_key: bytes) -> None:
    """Raise TrustError unless the log's own key, named by its origin, has signed the note."""
    name = note.checkpoint.origin
    wanted = key_hash(name, SIGNED_BY_LOG, public_key) if len(public_key) == KEY_BYTES else b""
    for each in note.signatures:
        if (each.name, each.key_hash) == (name, wanted) and len(each.value) == SIGNATURE_BYTES:
            _verify(public_key, each.value, note.body)
            return
    raise TrustError("the checkpoint is not signed by its log's key")


def verify_cosignature(note: Note, line: Signature, name: str, public_key: bytes) -> int:
    """Return when a witness cosigned, in seconds since 1970. Raises TrustError unless `name`'s key has signed."""
    wanted = key_hash(name, SIGNED_BY_WITNESS, public_key) if len(public_key) == KEY_BYTES else b""
    if (line.name, line.key_hash) != (name, wanted) or len(line.value) != TIME_BYTES + SIGNATURE_BYTES:
        raise TrustError("the cosignature is not by the witness's key")
    at_s = int.from_bytes(line.value[:TIME_BYTES], "big")
    _verify(public_key, line.value[TIME_BYTES:], cosigned_bytes(note.body, at_s))
    return at_s


def _verify(public_key: bytes, signature: bytes, data: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        raise TrustError("a signature under the checkpoint is not valid: it was changed after it was signed") from None
