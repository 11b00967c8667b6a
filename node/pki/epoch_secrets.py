"""Epoch secrets on their way to one member: sealed to its public key (HPKE), opened by its private key alone.

Sealing says for whom a secret is, not from whom: whoever opens one compares it with the check value in the signed
directory before it is used.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from node.config import FederationName, ProvinceCode
from node.errors import ConfigError, TrustError
from node.files import make_private_folder, read_private, write_atomic
from node.pki.membership import SETTINGS, canonical_json

if TYPE_CHECKING:
    from node.home import NodeHome

# RFC 9180 with the hybrid of draft-ietf-hpke-pq: whoever records a sealed secret today must break both halves.
SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
MLKEM_SEED_BYTES: Final = 64
MLKEM_PUBLIC_BYTES: Final = 1184
X25519_BYTES: Final = 32
PRIVATE_BYTES: Final = MLKEM_SEED_BYTES + X25519_BYTES
MAX_PUBLIC_KEY_BYTES: Final = 4096  # of the file that brings a public key to the directory
MAX_SEALED_BYTES: Final = 16 * 1024  # of a sealed file; one of ours is under 2 KiB
PURPOSE: Final = b"pulang/sealed-epoch-secret/1"


class SealingKey:
    """A node's private key for secrets sealed to it."""

    def __init__(self, private: bytes) -> None:
        """Take the serialized key: the ML-KEM-768 seed, then the X25519 key. Raises ConfigError on another length."""
        if len(private) != PRIVATE_BYTES:
            raise ConfigError(f"a sealing key is {PRIVATE_BYTES} bytes, not {len(private)}")
        self._private = MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(private[:MLKEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(private[MLKEM_SEED_BYTES:]),
        )
        self.public_hex = _public_hex(private)

    def open(self, sealed: SealedSecret) -> bytes:
        """Return the secret. Raises TrustError when it was sealed to another key, for another use, or was changed."""
        try:
            return SUITE.decrypt(base64.b64decode(sealed.sealed), self._private, _info(sealed))
        except (InvalidTag, ValueError):
            raise TrustError(
                f"the secret of epoch {sealed.epoch} was not sealed to this node's key, or was changed on its way",
                hint="compare `pulang epoch key` with the directory's key of this province, and have it sealed again",
            ) from None


@dataclass(frozen=True, slots=True, config=SETTINGS)
class SealedSecret:
    """One epoch's secret for one province. What it names is bound into the seal: none of it can be changed."""

    format: Literal["pulang-sealed-1"]
    federation: FederationName
    province: ProvinceCode
    epoch: Annotated[int, Field(ge=1, lt=2**31)]
    sealed: Annotated[str, Field(max_length=MAX_SEALED_BYTES)]
    """HPKE's encapsulated key and ciphertext, base64."""


_SEALED: Final = TypeAdapter(SealedSecret)


def ensure_sealing_key(home: NodeHome) -> SealingKey:
    """Return the node's key, made now if it has none. Raises as load_sealing_key does, and StoreError."""
    if not home.sealing_key.exists():
        make_private_folder(home.pki)
        private = MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()
        write_atomic(home.sealing_key, private.hex().encode("ascii") + b"\n")
    return load_sealing_key(home)


def load_sealing_key(home: NodeHome) -> SealingKey:
    """Return the node's key. Raises ConfigError (missing, damaged) or TrustError (others may read it)."""
    hint = "`pulang epoch key` makes one; its public half goes into the directory"
    text = read_private(home.sealing_key, limit=1024, hint=hint)
    try:
        return SealingKey(bytes.fromhex(text.decode("ascii")))
    except (ValueError, ConfigError):
        raise ConfigError(
            f"{home.sealing_key} is not a whole sealing key",
            hint="move it away; `pulang epoch key` makes a new one, which the directory must then carry",
        ) from None


def check_public_key(public_hex: str) -> None:
    """Raise ConfigError unless this is a public key that secrets can be sealed to."""
    _encrypt(b"", public_hex, PURPOSE)


def is_public_key(public_hex: str) -> bool:
    """Whether secrets can be sealed to this."""
    try:
        check_public_key(public_hex)
    except ConfigError:
        return False
    return True


def seal(secret: bytes, public_hex: str, *, federation: str, province: str, epoch: int) -> bytes:
    """Return the file that brings an epoch's secret to one province. Raises ConfigError for a key that is none."""
    named = SealedSecret("pulang-sealed-1", federation, province, epoch, "")
    ciphertext = _encrypt(secret, public_hex, _info(named))
    body = _SEALED.dump_python(named, mode="json") | {"sealed": base64.b64encode(ciphertext).decode("ascii")}
    return canonical_json(body) + b"\n"


def read_sealed(data: bytes) -> SealedSecret:
    """Parse a sealed file; nothing in it is to be believed before it was opened. Raises TrustError."""
    try:
        found = _SEALED.validate_json(data[: MAX_SEALED_BYTES + 1])
        base64.b64decode(found.sealed, validate=True)
    except (ValidationError, binascii.Error, ValueError):
        raise TrustError("this is not a sealed epoch secret", hint="copy the file again; it may be cut short") from None
    return found


def _info(sealed: SealedSecret) -> bytes:
    """Return what the seal is bound to: a secret sealed for one use opens for no other. No part can hold a NUL."""
    parts = (PURPOSE, sealed.federation.encode("ascii"), sealed.province.encode("ascii"), b"%d" % sealed.epoch)
    return b"\0".join(parts)


def _public_hex(private: bytes) -> str:
    mlkem = MLKEM768PrivateKey.from_seed_bytes(private[:MLKEM_SEED_BYTES]).public_key()
    x25519 = X25519PrivateKey.from_private_bytes(private[MLKEM_SEED_BYTES:]).public_key()
    return (mlkem.public_bytes_raw() + x25519.public_bytes_raw()).hex()


def _encrypt(secret: bytes, public_hex: str, info: bytes) -> bytes:
    try:
        raw = bytes.fromhex(public_hex)
        key = MLKEM768X25519PublicKey(  # each half refuses another length than its own
            MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(raw[MLKEM_PUBLIC_BYTES:]),
        )
        return SUITE.encrypt(secret, key, info)
    except ValueError:  # also a point of low order, with which everybody could open it
        raise ConfigError(
            "the encryption key is not a whole public key", hint="`pulang epoch key --out FILE` on that node writes it"
        ) from None
