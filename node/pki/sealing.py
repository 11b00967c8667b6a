"""Sealing a few bytes under a key that is used once: AES-256-GCM (NIST SP 800-38D)."""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.errors import TrustError

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


def seal(key: bytes, data: bytes, context: bytes) -> bytes:
    """Return `data` sealed; only the same key (KEY_BYTES) and context open it."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return what was sealed. Raises TrustError when key, context or a single bit differs."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
    except (InvalidTag, ValueError):
        raise TrustError("what was sealed cannot be opened: another key, or it was changed") from None
