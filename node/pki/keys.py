"""Private keys as files, and the names of public ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from node.errors import ConfigError
from node.files import read_private

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

MAX_KEY_BYTES: Final = 4096


def new_key() -> EllipticCurvePrivateKey:
    """Return a new private key of the one kind that certificates have here: P-256."""
    return generate_private_key(SECP256R1())


def private_pem(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    """Return a private key as it is kept in files: PKCS#8, PEM, readable by the file's owner alone."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_private_key(path: Path) -> PrivateKeyTypes:
    """Read a private key from its own file. Raises ConfigError; TrustError if others can read it."""
    key = parse_private_key(read_private(path, limit=MAX_KEY_BYTES))
    if key is None:
        raise ConfigError(f"{path} is not a whole private key", hint="restore the folder from its backup")
    return key


def parse_private_key(pem: bytes) -> PrivateKeyTypes | None:
    """Return a private key of whatever kind; None for what is none: the library's text may describe the key."""
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        return None


def key_hash(key: EllipticCurvePublicKey) -> str:
    """Return the name of a public key: SHA-256 of its SubjectPublicKeyInfo, hexadecimal."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
