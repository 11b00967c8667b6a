"""How an index lies on the disk: sealed, so that who takes the files without the node's own key learns sizes alone.

AES-256-GCM (NIST SP 800-38D) in chunks of CHUNK_BYTES, each with its 16 bytes of tag. Every file of every generation
has a key of its own, HKDF-SHA256 of the node's key with the generation's salt and the file's name, so that chunk
numbers can serve as nonces. A changed, swapped, shortened or foreign chunk is found when it is read.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from matching.errors import IndexDamagedError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    import numpy as np
    from numpy.typing import NDArray

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
CHUNK_BYTES: Final = 1 << 18
TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class AtRestKey:
    """A node's own key, 32 random bytes; no other node has it, and no question needs it."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Raise SchemaError unless the key is KEY_BYTES long."""
        if len(self.key) != KEY_BYTES:
            raise SchemaError(f"an index is sealed with {KEY_BYTES} bytes, not {len(self.key)}")

    def generation(self, salt: bytes) -> GenerationSeal:
        """Return the seal of one generation. salt: SALT_BYTES, fresh for every generation."""
        return GenerationSeal(self.key, salt)


def new_salt() -> bytes:
    """Return a fresh generation's salt."""
    return secrets.token_bytes(SALT_BYTES)


@dataclass(frozen=True, slots=True)
class GenerationSeal:
    """Seals and opens the files of one generation."""

    key: bytes = field(repr=False)
    salt: bytes

    def cipher(self, name: str) -> AESGCM:
        """Return the cipher of one file."""
        return AESGCM(self._derive(b"file\0" + name.encode()))

    def tag(self, manifest: bytes) -> str:
        """Return the hexadecimal HMAC-SHA256 of a manifest."""
        return hmac.digest(self._derive(b"manifest"), manifest, "sha256").hex()

    def _derive(self, purpose: bytes) -> bytes:
        return HKDF(SHA256(), KEY_BYTES, self.salt, b"pulang/at-rest/1/" + purpose).derive(self.key)


class SealedWriter:
    """Writes a file front to back in sealed chunks."""

    def __init__(self, write: Callable[[bytes], object], cipher: AESGCM) -> None:
        self._write = write
        self._cipher = cipher
        self._waiting = bytearray()
        self._chunks = 0

    def write(self, data: bytes) -> None:
        """Take bytes of any length; whole chunks are sealed and written."""
        self._waiting += data
        done = len(self._waiting) - len(self._waiting) % CHUNK_BYTES
        for start in range(0, done, CHUNK_BYTES):
            self._seal(bytes(self._waiting[start : start + CHUNK_BYTES]))
        del self._waiting[:done]

    def finish(self) -> None:
        """Seal and write what is left."""
        if self._waiting:
            self._seal(bytes(self._waiting))
            self._waiting.clear()

    def _seal(self, chunk: bytes) -> None:
        self._write(self._cipher.encrypt(_nonce(self._chunks), chunk, None))
        self._chunks += 1


def sealed_bytes(plain_bytes: int) -> int:
    """Return how long a file of `plain_bytes` is when it is sealed."""
    return plain_bytes + TAG_BYTES * -(-plain_bytes // CHUNK_BYTES)


def open_sealed(source: BinaryIO, cipher: AESGCM, out: NDArray[np.uint8], name: str) -> None:
    """Fill `out`, (n,) bytes, from a sealed file. Raises IndexDamagedError naming it when a chunk is not genuine."""
    view = memoryview(out.data).cast("B")
    for number, start in enumerate(range(0, len(view), CHUNK_BYTES)):
        target = view[start : start + CHUNK_BYTES]
        sealed = source.read(len(target) + TAG_BYTES)
        try:
            cipher.decrypt_into(_nonce(number), sealed, None, target)
        except (InvalidTag, ValueError):
            raise IndexDamagedError(file=name, reason="it was changed, or sealed with another node's key") from None


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")
