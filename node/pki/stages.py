"""The stages an issuer goes through while its successor takes over: pure decisions, and the file that holds them.

requested -> prepared -> active -> old -> tainted -> revoked; a root skips `requested`. At most two issuers are trusted
at the same moment: a successor is prepared only when its predecessor's predecessor is gone. Source of stages and
verbs: SPIRE, "localauthority".
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter
from pydantic.dataclasses import dataclass

from node.errors import ConfigError, StoreError, TrustError
from node.files import read_private, write_atomic
from node.pki.keys import key_hash, read_private_key
from node.pki.membership import SETTINGS, canonical_json
from node.pki.profile import p256_key

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

MAX_STAGES_BYTES: Final = 1 << 20
BACKUP_HINT: Final = "restore the folder from its backup; sign nothing before that"


class Stage(StrEnum):
    """What an issuer may do."""

    REQUESTED = "requested"  # a key waits for its certificate
    PREPARED = "prepared"  # trusted, not yet signing
    ACTIVE = "active"  # signs
    OLD = "old"  # signs no more; what it signed counts
    TAINTED = "tainted"  # what it signed still counts, and must be reissued
    REVOKED = "revoked"  # counts no more


TRUSTED: Final = frozenset({Stage.PREPARED, Stage.ACTIVE, Stage.OLD, Stage.TAINTED})


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Issuer:
    """A root or an intermediate, and where it stands. since: when it came to its stage."""

    number: Annotated[int, Field(ge=1)]
    stage: Stage
    since: AwareDatetime
    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of its public key (SubjectPublicKeyInfo)."""
    pem: str | None = None
    """Its certificate; None while it is requested."""

    @property
    def certificate(self) -> x509.Certificate:
        """Its certificate, parsed."""
        assert self.pem is not None  # only a requested one has none
        return x509.load_pem_x509_certificate(self.pem.encode())


Issuers = tuple[Issuer, ...]
_ISSUERS: Final = TypeAdapter(Issuers)


def find(issuers: Issuers, *stages: Stage) -> Issuer | None:
    """Return the newest issuer in one of these stages."""
    return next((issuer for issuer in reversed(issuers) if issuer.stage in stages), None)


def trusted(issuers: Issuers) -> Issuers:
    """Return the issuers whose certificates count, oldest first."""
    return tuple(issuer for issuer in issuers if issuer.stage in TRUSTED)


def refuse_second_successor(issuers: Issuers) -> None:
    """Raise TrustError while the last change of issuers is not finished."""
    if left := find(issuers, Stage.OLD, Stage.TAINTED):
        verb = "taint" if left.stage is Stage.OLD else "revoke"
        raise TrustError(
            f"number {left.number} is {left.stage.value} since {left.since:%Y-%m-%d %H:%M} UTC: never three at a time",
            hint=f"finish that change first: `pulang ca {verb}`",
        )


def certified(issuers: Issuers, pem: str, now: datetime) -> Issuers:
    """Move the requested one to prepared, with its certificate; the same certificate again changes nothing."""
    waiting = find(issuers, Stage.REQUESTED)
    if waiting is None:
        if any(issuer.pem == pem for issuer in issuers):
            return issuers
        raise TrustError("no key waits for a certificate here", hint="`pulang ca prepare` makes one")
    return _changed(issuers, {waiting.number: replace(waiting, stage=Stage.PREPARED, since=now, pem=pem)})


def activated(issuers: Issuers, now: datetime) -> Issuers:
    """Move the prepared one to active, and what was active to old; right after itself it changes nothing."""
    ready, active = find(issuers, Stage.PREPARED), find(issuers, Stage.ACTIVE)
    if ready is None:
        waiting = find(issuers, Stage.REQUESTED)
        if waiting is not None:
            raise TrustError(
                f"number {waiting.number} has no certificate yet",
                hint="`pulang ca issue` at the authority, then `pulang ca install`",
            )
        if active is not None and active.since == max(issuer.since for issuer in issuers):
            return issuers
        raise TrustError("nothing is prepared that could become active", hint="`pulang ca prepare` first")
    if now >= ready.certificate.not_valid_after_utc:
        raise TrustError(
            f"number {ready.number} expired at {ready.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            hint="compare this machine's clock with the time of day",
        )
    changes = {ready.number: replace(ready, stage=Stage.ACTIVE, since=now)}
    if active is not None:
        changes[active.number] = replace(active, stage=Stage.OLD, since=now)
    return _changed(issuers, changes)


def tainted(issuers: Issuers, now: datetime) -> Issuers:
    """Move the old one to tainted; right after itself it changes nothing.

    The active one cannot be tainted: nobody would sign.
    """
    old = find(issuers, Stage.OLD)
    if old is None:
        if find(issuers, Stage.TAINTED):
            return issuers
        raise TrustError(
            "there is no old one to taint: the active one has no successor yet",
            hint="`pulang ca prepare`, then `pulang ca activate`, then taint the one before",
        )
    return _changed(issuers, {old.number: replace(old, stage=Stage.TAINTED, since=now)})


def revoked(issuers: Issuers, now: datetime) -> Issuers:
    """Move the tainted one to revoked; right after itself it changes nothing."""
    bad = find(issuers, Stage.TAINTED)
    if bad is None:
        if (old := find(issuers, Stage.OLD)) is not None:
            raise TrustError(
                f"number {old.number} is old and not tainted: what it signed has not been reissued",
                hint="`pulang ca taint` first",
            )
        if any(issuer.stage is Stage.REVOKED for issuer in issuers) and not find(issuers, Stage.PREPARED):
            return issuers
        raise TrustError("nothing is tainted", hint="`pulang ca status` shows which verb is next")
    return _changed(issuers, {bad.number: replace(bad, stage=Stage.REVOKED, since=now)})


def next_step(issuers: Issuers) -> str:
    """Return what an admin does next, in one sentence."""
    if find(issuers, Stage.REQUESTED):
        return "have the request issued at the authority, then `pulang ca install`"
    if find(issuers, Stage.PREPARED):
        return "once every member has it in its membership: `pulang ca activate`"
    if find(issuers, Stage.OLD):
        return "when the new one has worked for a while: `pulang ca taint`"
    if find(issuers, Stage.TAINTED):
        return "when nothing in use hangs on the tainted one: `pulang ca revoke`"
    return "nothing until the active one nears its end: then `pulang ca prepare`"


def _changed(issuers: Issuers, changes: dict[int, Issuer]) -> Issuers:
    return tuple(changes.get(issuer.number, issuer) for issuer in issuers)


# --- the folder ------------------------------------------------------------------------------------------------------


class IssuerFolder:
    """The issuers of one folder: stages.json, which is the truth, and one key file each (0600).

    Every verb writes stages.json last, so that a verb cut short has not happened; a key file that stages.json does not
    name is overwritten by the next `prepare`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def path(self) -> Path:
        """The file that says who stands where."""
        return self.folder / "stages.json"

    def read(self) -> Issuers:
        """Return all issuers, oldest first; none if there is no file. Raises StoreError for a damaged one."""
        if not self.path.exists():
            return ()
        text = read_private(self.path, limit=MAX_STAGES_BYTES)
        try:
            issuers = _ISSUERS.validate_json(text)
            _ = [each.certificate for each in issuers if each.pem is not None]
        except (ValueError, x509.InvalidVersion):  # pydantic's is a ValueError
            raise StoreError(f"{self.path} is damaged", hint=BACKUP_HINT) from None
        return issuers

    def write(self, issuers: Issuers) -> None:
        """Replace the truth, then delete the keys of issuers that will never sign again."""
        write_atomic(self.path, canonical_json(_ISSUERS.dump_python(issuers, mode="json")) + b"\n", replace=True)
        self.delete_spent_keys(issuers)

    def delete_spent_keys(self, issuers: Issuers) -> None:
        """Delete the keys of tainted and revoked issuers; there is no way back from either."""
        for issuer in issuers:
            if issuer.stage in (Stage.TAINTED, Stage.REVOKED):
                self.key_path(issuer.number).unlink(missing_ok=True)

    def key_path(self, number: int) -> Path:
        """Return where an issuer's private key lies."""
        return self.folder / f"{number}.key"

    def key(self, issuer: Issuer) -> EllipticCurvePrivateKey:
        """Return an issuer's private key. Raises ConfigError or TrustError."""
        path = self.key_path(issuer.number)
        key = read_private_key(path)
        if not isinstance(key, EllipticCurvePrivateKey) or key_hash(key.public_key()) != issuer.key:
            raise TrustError(f"{path} is not the key of number {issuer.number}", hint=BACKUP_HINT)
        return key

    def signer(self) -> tuple[Issuer, x509.Certificate, EllipticCurvePrivateKey]:
        """Return the active issuer with certificate and key. Raises ConfigError when none is active."""
        active = find(self.read(), Stage.ACTIVE)
        if active is None:
            raise ConfigError(f"{self.folder} has no active issuer", hint="`pulang ca status` shows what is missing")
        certificate = active.certificate
        p256_key(certificate, f"number {active.number}")
        return active, certificate, self.key(active)
