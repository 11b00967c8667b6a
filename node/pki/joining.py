"""How a node's folder takes in the membership, the root it is trusted by, and the epoch's linkage secret."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from matching.keys import load_secret
from node.config import load_config
from node.epoch import read_epoch_secret
from node.errors import ConfigError, TrustError
from node.files import make_private_folder, write_atomic
from node.pki.membership import epoch_check
from node.pki.refresh import Mirror, stored_copy
from node.pki.repository import root_versions

if TYPE_CHECKING:
    from datetime import datetime

    from node.home import NodeHome
    from node.pki.membership import Epoch, Membership
    from node.pki.repository import Files


def join_federation(
    home: NodeHome,
    files: Files,
    now: datetime,
    *,
    root_sha256: str | None = None,
    secret_text: str | None = None,
) -> Membership:
    """Verify a repository and make it the node's. Returns what it says.

    The first root's SHA-256, told by another channel, is needed the first time and decides for ever; the secret is
    needed once an epoch. The membership is written last: where it is, the rest is too.
    Raises ConfigError or TrustError, and nothing is changed then; SchemaError for a malformed secret.
    """
    config = load_config(home)
    first = files.get(f"{root_versions(files)[0]}.root.json", b"")
    membership = stored_copy(files, first).membership  # judged against the trusted root below, before it is written
    if membership.federation != config.federation:
        raise TrustError(
            f"the membership is of {membership.federation}, and this node is of {config.federation}",
            hint=f"take the repository of {config.federation}, or correct {home.config}",
        )
    kept = _secret_to_keep(home, membership, secret_text)
    Mirror(home.tuf).check(files, now, root_sha256=root_sha256)
    if kept is not None:
        secret, epoch = kept
        path = home.epoch_secret(epoch.number)
        make_private_folder(path.parent)
        write_atomic(path, secret.hex().encode("ascii") + b"\n")
    return Mirror(home.tuf).install(files, now, root_sha256=root_sha256).membership


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
