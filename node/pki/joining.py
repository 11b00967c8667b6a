"""How a node's folder takes in a membership, its anchor and the epoch's linkage secret."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from matching.keys import load_secret
from node.config import load_config
from node.epoch import read_epoch_secret
from node.errors import ConfigError, TrustError
from node.files import PUBLIC, make_private_folder, read_file, write_atomic
from node.pki.membership import (
    MAX_ANCHOR_BYTES,
    MAX_MEMBERSHIP_BYTES,
    epoch_check,
    key_id,
    read_anchor,
    read_signed,
    verify_membership,
)

if TYPE_CHECKING:
    from datetime import datetime

    from node.home import NodeHome
    from node.pki.membership import Epoch, Membership


def join_federation(
    home: NodeHome,
    envelope: bytes,
    now: datetime,
    *,
    anchor_pem: bytes | None = None,
    secret_text: str | None = None,
) -> Membership:
    """Verify a membership file and make it the node's; again for every newer version. Returns what it says.

    The anchor is needed the first time and can never be changed by this; the secret is needed once an epoch. The
    membership is written last: where it is, the rest is too. Nothing is changed when anything is refused.
    Raises ConfigError or TrustError; SchemaError for a malformed secret.
    """
    config = load_config(home)
    anchor_pem = _anchor_to_trust(home, anchor_pem)
    membership = verify_membership(envelope, anchor_pem, now)
    if membership.federation != config.federation:
        raise TrustError(
            f"the membership is of {membership.federation}, and this node is of {config.federation}",
            hint=f"take the file of {config.federation}, or correct {home.config}",
        )
    _refuse_older(home, membership, anchor_pem)
    kept = _secret_to_keep(home, membership, secret_text)

    if kept is not None:
        secret, epoch = kept
        path = home.epoch_secret(epoch.number)
        make_private_folder(path.parent)
        write_atomic(path, secret.hex().encode("ascii") + b"\n")
    write_atomic(home.membership_anchor, anchor_pem, mode=PUBLIC, replace=True)
    write_atomic(home.membership, envelope, mode=PUBLIC, replace=True)
    return membership


def _anchor_to_trust(home: NodeHome, offered: bytes | None) -> bytes:
    if not home.membership_anchor.exists():
        if offered is None:
            raise ConfigError("this node has no anchor yet", hint="give the authority's membership.pub with --anchor")
        return offered
    installed = read_file(home.membership_anchor, limit=MAX_ANCHOR_BYTES)
    if offered is not None and key_id(read_anchor(offered)) != key_id(read_anchor(installed)):
        raise TrustError(
            "the anchor is not the one this node trusts",
            hint=f"ask the authority by another channel; if its key really changed, remove {home.membership_anchor}",
        )
    return installed


def _refuse_older(home: NodeHome, membership: Membership, anchor_pem: bytes) -> None:
    if not home.membership.exists():
        return
    try:
        installed = read_signed(read_file(home.membership, limit=MAX_MEMBERSHIP_BYTES), anchor_pem)
    except (ConfigError, TrustError):
        return  # a damaged file keeps the node from starting; this is its repair
    if membership.version < installed.version:
        raise TrustError(
            f"the membership is version {membership.version}, and this node has version {installed.version}",
            hint="going back would let a member that was put out return: take the newest file",
        )
    if membership.version == installed.version and membership != installed:
        raise TrustError(
            f"two different memberships carry version {membership.version}",
            hint="tell the authority at once: its key signed both, or its folder was restored from a backup",
        )


def _secret_to_keep(home: NodeHome, membership: Membership, offered: str | None) -> tuple[bytes, Epoch] | None:
    """Return the offered secret and its epoch unless it is in the folder; those in the folder are checked too.

    Only a directory without epochs needs one here: else it may come sealed (`take_in_secret`).
    """
    there = [epoch for epoch in membership.valid_epochs if home.epoch_secret(epoch.number).exists()]
    for epoch in there:
        path = home.epoch_secret(epoch.number)
        if not _is_of(read_epoch_secret(path), epoch):
            raise _wrong(str(path), membership, "move it away and join again with --epoch-secret")
    if offered is None:
        if not there and not membership.epochs:
            raise ConfigError(
                f"this node has no linkage secret of epoch {membership.key_epoch}",
                hint=f"give epoch-{membership.key_epoch}.key with --epoch-secret",
            )
        return None
    secret = load_secret(offered)
    meant = next((epoch for epoch in membership.valid_epochs if _is_of(secret, epoch)), None)
    if meant is None:
        raise _wrong("the secret file", membership, "take the authority's file of this epoch")
    return None if meant in there else (secret, meant)


def _is_of(secret: bytes, epoch: Epoch) -> bool:
    return hmac.compare_digest(epoch_check(secret, epoch.number), epoch.check)


def _wrong(what: str, membership: Membership, hint: str) -> TrustError:
    numbers = " or ".join(str(epoch.number) for epoch in membership.valid_epochs)
    return TrustError(f"{what} is not the secret of epoch {numbers} in {membership.federation}", hint=hint)
