"""Keys that a node makes for itself and that never leave it: made when first needed, 32 bytes as hex, 0600."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

from node.errors import ConfigError
from node.files import make_private_folder, read_private, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32
MAX_FILE_BYTES: Final = 256


def load_local_key(path: Path, *, lost: str) -> bytes:
    """Return the key in `path`, making it if there is none. lost: what a new one would change, for the hint.

    Raises ConfigError for a file that holds no key, TrustError for one that others may read.
    """
    if not path.exists():
        make_private_folder(path.parent)
        write_atomic(path, secrets.token_hex(KEY_BYTES).encode("ascii") + b"\n")
    text = read_private(path, limit=MAX_FILE_BYTES).decode("ascii", errors="replace").strip()
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", text):
        raise ConfigError(
            f"{path} is not {KEY_BYTES} bytes in hexadecimal", hint=f"restore it; or remove it, and {lost}"
        )
    return bytes.fromhex(text)
