"""A key epoch from stage to stage: its secret made and sealed for all, made active, retired; and taken in by a node."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from matching.keys import SECRET_BYTES, load_secret
from node.config import load_config
from node.epoch import read_epoch_secret
from node.errors import ConfigError, TrustError
from node.files import make_private_folder, write_atomic
from node.pki.epoch_secrets import is_public_key, load_sealing_key, read_sealed, seal
from node.pki.membership import Epoch, EpochState, epoch_check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.home import NodeHome
    from node.pki.membership import Member, Membership


def sealed_name(epoch: int, province: str) -> str:
    """Return the path under which a province's sealed secret is published."""
    return f"epoch-{epoch}/{province}.sealed"


def make_epoch(federation: str, members: Sequence[Member], number: int) -> tuple[Epoch, dict[str, bytes]]:
    """Make an epoch's secret and seal it to every member. Returns its entry, and the sealed files by path.

    The secret itself is written nowhere: members alone can open what comes back. Raises ConfigError when a member has
    no encryption key: it would be shut out.
    """
    without = [member.code for member in members if not is_public_key(member.encryption_key)]
    if without or not members:
        raise ConfigError(
            f"no usable encryption key is in the directory for {', '.join(without) or 'anybody'}",
            hint="there, `pulang epoch key --out FILE`; the key goes into the directory first",
        )
    secret = secrets.token_bytes(SECRET_BYTES)
    sealed = {
        sealed_name(number, member.code): seal(
            secret, member.encryption_key, federation=federation, province=member.code, epoch=number
        )
        for member in members
    }
    return Epoch(number, epoch_check(secret, number), EpochState.NEXT), sealed


def seal_again(home: NodeHome, membership: Membership, province: str, number: int) -> bytes:
    """Seal an epoch's secret, which this node holds, to a member that came or changed its key.

    Any member may: the directory says who is a member and with which key, and the check value there tells the
    receiver whether it is the right secret. Raises ConfigError or TrustError.
    """
    member, epoch = membership.by_code(province), membership.epoch(number)
    if member is None or not member.encryption_key:
        raise ConfigError(
            f"the directory, version {membership.version}, has no encryption key of province {province}",
            hint="it is admitted with its key first",
        )
    if epoch is None:
        raise _not_valid(number, membership)
    secret = read_epoch_secret(home.epoch_secret(number), hint="a member that holds the secret can seal it")
    _require_right(secret, epoch, str(home.epoch_secret(number)))
    return seal(secret, member.encryption_key, federation=membership.federation, province=province, epoch=number)


def take_in_secret(home: NodeHome, membership: Membership, sealed: bytes) -> Epoch:
    """Open a sealed secret and keep it in the node's folder, if it is the one the directory means. Returns its epoch.

    Called for a file that was carried here and for one that came with the directory's metadata; a second time changes
    nothing. Raises TrustError for another federation's, province's or epoch's, for one that cannot be opened and for a
    wrong secret; ConfigError without a sealing key. Nothing is changed when anything is refused.
    """
    found, config = read_sealed(sealed), load_config(home)
    if found.federation != membership.federation or found.province != config.province:
        raise TrustError(
            f"the secret is sealed for province {found.province} of {found.federation}, "
            f"and this node is {config.province} of {membership.federation}",
            hint=f"take the file {sealed_name(found.epoch, config.province)}",
        )
    epoch = membership.epoch(found.epoch)
    if epoch is None:
        raise _not_valid(found.epoch, membership)
    secret = load_sealing_key(home).open(found)
    _require_right(secret, epoch, "what was sealed")
    path = home.epoch_secret(epoch.number)
    if path.exists():
        _require_right(read_epoch_secret(path), epoch, str(path))
        return epoch
    make_private_folder(path.parent)
    write_atomic(path, load_secret(secret.hex()).hex().encode("ascii") + b"\n")
    return epoch


def with_next(epochs: tuple[Epoch, ...], new: Epoch) -> tuple[Epoch, ...]:
    """Return the stage in which `new` is prepared. Raises ConfigError while a changeover is under way."""
    if len(epochs) != 1:
        raise ConfigError(
            "two epochs are valid already: one changeover at a time",
            hint="end the old one: `federation propose epoch --end`",
        )
    if new.number <= epochs[0].number:
        raise ConfigError(f"epoch {new.number} does not follow epoch {epochs[0].number}", hint="numbers only go up")
    return (*epochs, replace(new, state=EpochState.NEXT))


def with_next_active(epochs: tuple[Epoch, ...], number: int) -> tuple[Epoch, ...]:
    """Return the stage in which the prepared epoch is asked in, and the one before it still answered."""
    if len(epochs) != 2 or (epochs[1].number, epochs[1].state) != (number, EpochState.NEXT):
        raise ConfigError(f"epoch {number} is not prepared", hint="`pulang epoch status` says what is")
    return replace(epochs[0], state=EpochState.OLD), replace(epochs[1], state=EpochState.ACTIVE)


def without_other(epochs: tuple[Epoch, ...], number: int) -> tuple[Epoch, ...]:
    """Return the stage without the old epoch, or without a prepared one that is given up."""
    found = next((epoch for epoch in epochs if epoch.number == number), None)
    if found is None or found.state is EpochState.ACTIVE:
        raise ConfigError(
            f"epoch {number} is {'the active one' if found else 'not valid anyway'}",
            hint="`pulang epoch status` says which one is old",
        )
    return tuple(epoch for epoch in epochs if epoch is not found)


def _require_right(secret: bytes, epoch: Epoch, what: str) -> None:
    if not hmac.compare_digest(epoch_check(secret, epoch.number), epoch.check):
        raise TrustError(
            f"{what} is not the secret of epoch {epoch.number} that the directory means",
            hint="have it sealed again by a member that asks and is answered: `pulang epoch seal`",
        )


def _not_valid(number: int, membership: Membership) -> TrustError:
    return TrustError(
        f"epoch {number} is not valid in {membership.federation}: the directory, version {membership.version}, has "
        f"{' and '.join(str(epoch.number) for epoch in membership.valid_epochs)}",
        hint="take the newest directory in first",
    )
