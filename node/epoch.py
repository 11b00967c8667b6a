"""The linkage keys of the configured epoch, derived from the secret in the node's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matching.keys import FieldKeys, load_secret
from matching.schema import PERSON_SCHEMA
from node.errors import TrustError
from node.files import read_file, read_private
from node.pki.membership import MAX_ANCHOR_BYTES, MAX_MEMBERSHIP_BYTES, epoch_check, read_signed

if TYPE_CHECKING:
    from pathlib import Path

    from node.config import NodeConfig
    from node.home import NodeHome
    from node.pki.membership import Membership

MAX_SECRET_BYTES: Final = 256


def load_keys(home: NodeHome, config: NodeConfig, membership: Membership | None) -> FieldKeys:
    """Derive the linkage keys of the configured epoch. Raises ConfigError, TrustError or SchemaError."""
    epoch = config.key_epoch
    path = home.epoch_secret(epoch)
    secret = read_epoch_secret(path, hint="`pulang federation join` with --epoch-secret puts it there")
    # With a wrong secret every question would find nobody anywhere, and look like "not registered".
    if membership and epoch == membership.key_epoch and epoch_check(secret, epoch) != membership.epoch_check:
        raise TrustError(
            f"{path} is not this federation's secret of epoch {epoch}", hint="get it from the authority again"
        )
    return FieldKeys.derive(secret, PERSON_SCHEMA, epoch)


def read_epoch_secret(path: Path, *, hint: str | None = None) -> bytes:
    """Return the linkage secret in a private file. Raises ConfigError, TrustError or SchemaError, never showing it."""
    return load_secret(read_private(path, limit=MAX_SECRET_BYTES, hint=hint).decode("ascii", errors="replace"))


def import_keys(home: NodeHome, config: NodeConfig) -> FieldKeys:
    """Derive the keys a registry is encoded with; a node may import before it has joined, or after its list expired.

    A membership that is there, of whatever age, still tells a wrong secret. Raises as load_keys does.
    """
    if not home.membership.exists():
        return load_keys(home, config, None)
    anchor = read_file(home.membership_anchor, limit=MAX_ANCHOR_BYTES)
    return load_keys(home, config, read_signed(read_file(home.membership, limit=MAX_MEMBERSHIP_BYTES), anchor))
