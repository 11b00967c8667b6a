"""Renewal of a node's leaf by the node itself: whether it is due, and the whole of it in one step."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from node.errors import ConfigError
from node.pki.credentials import current_leaf, install_made
from node.pki.intermediate import DEFAULT_LEAF_DAYS, ProvinceAuthority
from node.pki.keys import new_key
from node.pki.register import only_writer
from node.pki.stages import Stage, find

if TYPE_CHECKING:
    from datetime import datetime

    from node.home import NodeHome
    from node.pki.credentials import Credentials, CurrentLeaf

RENEW_AT: Final = 2 / 3  # of a leaf's life: of 7 days, 56 hours are left to repair what keeps it from renewing
JITTER: Final = 1 / 20  # of a leaf's life, so much earlier at most: nodes started together do not renew together


def renew_if_due(home: NodeHome, now: datetime, jitter: float) -> Credentials | None:
    """Give the node a new key and leaf if it is time; None if it is not, or if its intermediate is kept elsewhere.

    Due: no leaf yet; 2/3 of its life gone, less JITTER * jitter; its intermediate tainted or revoked; itself revoked.
    jitter: 0 to 1, drawn anew after every renewal. Between any two writes the old leaf is whole and in use.
    Raises ConfigError, TrustError or StoreError when it is due and cannot be done, or when the present one or the
    intermediate's key cannot be used.
    """
    if not home.ca.is_dir():
        return None
    authority = ProvinceAuthority(home)
    with only_writer(home.ca):
        if find(authority.issuers, Stage.ACTIVE) is None:
            return None
        authority.check_key()  # a key that others can read, or that is gone, is news today, not when the leaf is due
        leaf = current_leaf(home)
        return _renew(authority, now) if leaf is None or _is_due(authority, leaf, now, jitter) else None


def renew(home: NodeHome, now: datetime, *, days: int = DEFAULT_LEAF_DAYS) -> Credentials:
    """Give the node a new key and leaf now, whatever the present one is, unreadable included.

    Raises ConfigError, TrustError or StoreError; the present one then stays.
    """
    if not home.ca.is_dir():
        raise ConfigError(
            f"{home.root} has no intermediate to renew with",
            hint="`pulang ca prepare`; if the province keeps it elsewhere: `pulang cert request`",
        )
    authority = ProvinceAuthority(home)
    with only_writer(home.ca):
        return _renew(authority, now, days=days)


def _is_due(authority: ProvinceAuthority, leaf: CurrentLeaf, now: datetime, jitter: float) -> bool:
    issuer = next((issuer for issuer in authority.issuers if issuer.key == leaf.issuer_key), None)
    if issuer is not None and issuer.stage in (Stage.TAINTED, Stage.REVOKED):
        return True
    if authority.register.path.exists() and any(
        revocation.serial == leaf.serial for revocation in authority.register.revocations()
    ):
        return True
    life = leaf.not_after - leaf.not_before
    if now < leaf.not_before + life * (RENEW_AT - JITTER * jitter):
        return False
    # Near the intermediate's end a new leaf would end no later than the present one: not worth a key a minute.
    return issuer is None or _end(authority, now, DEFAULT_LEAF_DAYS) > leaf.not_after


def _end(authority: ProvinceAuthority, now: datetime, days: int) -> datetime:
    active = find(authority.issuers, Stage.ACTIVE)
    end = now.replace(microsecond=0) + timedelta(days=days)
    return end if active is None else min(end, active.certificate.not_valid_after_utc)


def _renew(authority: ProvinceAuthority, now: datetime, *, days: int = DEFAULT_LEAF_DAYS) -> Credentials:
    # The key exists in memory alone until its certificate does: a crash before that leaves a line in the register.
    key = new_key()
    chain = authority.sign(key.public_key(), _end(authority, now, days), now)
    return install_made(authority.home, key, chain, now)
