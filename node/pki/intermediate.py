"""A province's own issuer: the folder <home>/ca, from which its node's leaves are signed.

stages.json and N.key (the intermediates, at most two at a time), issued.jsonl (register of every leaf).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from node.errors import ConfigError, TrustError
from node.files import PUBLIC, make_private_folder, read_file, write_atomic
from node.pki.credentials import current_leaf, own_identity, roots_path, roots_to_trust
from node.pki.keys import key_hash, new_key, private_pem
from node.pki.membership import Revocation
from node.pki.profile import BACKDATE, MAX_LEAF_DAYS, leaf_builder, p256_key, refuse_outliving
from node.pki.register import Issued, Reason, Register, known_key, only_writer
from node.pki.request import make_request, requested_key
from node.pki.stages import (
    Issuer,
    IssuerFolder,
    Issuers,
    Stage,
    activated,
    certified,
    find,
    refuse_second_successor,
    revoked,
    tainted,
)
from node.pki.trust import (
    MAX_CHAIN_PEM_BYTES,
    is_signed_by,
    read_certificates,
    read_roots,
    verify_chain,
    verify_intermediate,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from node.home import NodeHome
    from node.pki.membership import Membership

DEFAULT_LEAF_DAYS: Final = 7


class ProvinceAuthority:
    """The intermediates of one province. There may be none yet: every verb but `prepare` then says so."""

    def __init__(self, home: NodeHome) -> None:
        """Open a node's folder. Raises ConfigError if it is none."""
        self.home = home
        self.identity = own_identity(home)
        self.register = Register(home.ca / "issued.jsonl")
        self._folder = IssuerFolder(home.ca)

    @property
    def issuers(self) -> Issuers:
        """Every intermediate there ever was, oldest first, with its stage."""
        return self._folder.read()

    def prepare(self, now: datetime, *, discard: bool = False) -> bytes:
        """Make the next intermediate's key and return the PEM request for it; a request that waits is given again.

        discard: throw the waiting key away and begin anew. Raises TrustError out of order.
        """
        make_private_folder(self.home.ca)
        with only_writer(self.home.ca):
            issuers = self.issuers
            waiting = find(issuers, Stage.REQUESTED)
            if waiting is not None and not discard:
                return make_request(self._folder.key(waiting), self.identity)
            if ready := find(issuers, Stage.PREPARED):
                raise TrustError(
                    f"number {ready.number} is prepared already, since {ready.since:%Y-%m-%d %H:%M} UTC",
                    hint="`pulang ca activate` makes it sign",
                )
            refuse_second_successor(issuers)
            kept = tuple(issuer for issuer in issuers if issuer.stage is not Stage.REQUESTED)
            # A number is never given twice: a key that is thrown away must not be named by an old stages.json.
            number = max((issuer.number for issuer in issuers), default=0) + 1
            key = new_key()
            write_atomic(self._folder.key_path(number), private_pem(key), replace=True)
            made = Issuer(number, Stage.REQUESTED, now.replace(microsecond=0), key_hash(key.public_key()))
            self._folder.write((*kept, made))
            if waiting is not None:
                self._folder.key_path(waiting.number).unlink(missing_ok=True)
            return make_request(key, self.identity)

    def install(self, certificate_pem: bytes, now: datetime, *, roots_pem: bytes | None = None) -> Issuer:
        """Take in the certificate of the waiting request, after checking it against key, province and root.

        Raises ConfigError or TrustError; nothing is changed then. The same again changes nothing.
        """
        roots = roots_to_trust(self.home, roots_pem)
        certificate, *more = read_certificates(certificate_pem, "the certificate file")
        if more:
            raise TrustError("the file holds more than one certificate", hint="install what `pulang ca issue` wrote")
        verify_intermediate(certificate, self.identity, read_roots(roots, "the root file"))
        _refuse_outside_life(certificate, now)
        pem = certificate.public_bytes(Encoding.PEM).decode("ascii")
        with only_writer(self._existing()):
            issuers = self.issuers
            waiting = find(issuers, Stage.REQUESTED)
            name = key_hash(p256_key(certificate, "the certificate"))
            if waiting is not None and name != waiting.key:
                raise TrustError(
                    "the certificate was not made for the key that waits here",
                    hint="send the newest request to the authority and install what comes back",
                )
            issuers = certified(issuers, pem, now.replace(microsecond=0))
            make_private_folder(self.home.pki)
            write_atomic(roots_path(self.home), roots, mode=PUBLIC, replace=True)
            self._folder.write(issuers)
        return next(issuer for issuer in issuers if issuer.pem == pem)

    def activate(self, now: datetime, *, membership: Membership | None = None) -> Issuers:
        """Let the prepared intermediate sign; the one before signs no more. Raises TrustError out of order.

        membership: the list this node has, which must have the prepared one: whatever that signs would be refused by
        every other node until they have heard of it. None: not asked.
        """
        ready = find(self.issuers, Stage.PREPARED)
        own = membership.by_code(self.identity.province) if membership else None
        if ready is not None and membership and own and ready.pem not in own.intermediates:
            raise TrustError(
                f"number {ready.number} is not in the list of members, version {membership.version}, yet: what it "
                "signs would be refused",
                hint="the signers publish it first: `pulang federation propose change --add-intermediate`; --force "
                "activates all the same",
            )
        return self._step(activated, now)

    def taint(self, now: datetime) -> Issuers:
        """Say that every leaf of the old intermediate must be reissued, and delete its key.

        A running node then renews its leaf by itself. Raises TrustError out of order.
        """
        return self._step(tainted, now)

    def revoke(self, now: datetime, reason: Reason, *, force: bool = False) -> Revocation:
        """Say that the tainted intermediate counts no more; return what travels to the federation.

        Without `force` refused while the node's own leaf hangs on it. Raises TrustError out of order.
        """
        bad = find(self.issuers, Stage.TAINTED)
        leaf = None if bad is None or force else current_leaf(self.home)
        if bad is not None and leaf is not None and leaf.issuer_key == bad.key:
            raise TrustError(
                "this node's certificate hangs on the tainted intermediate",
                hint="`pulang cert renew` first; --force cuts the node off at once",
            )
        gone = find(self._step(revoked, now), Stage.REVOKED)
        assert gone is not None  # the step would have been refused
        roots = read_roots(read_file(roots_path(self.home), limit=MAX_CHAIN_PEM_BYTES), "the root file")
        return self._revocation(gone, roots, reason)

    def _revocation(self, gone: Issuer, roots: tuple[x509.Certificate, ...], reason: Reason) -> Revocation:
        root = next((root for root in roots if is_signed_by(gone.certificate, root)), None)
        if root is None:
            raise TrustError(
                f"the root of intermediate {gone.number} is no longer trusted here: it counts nowhere any more",
                hint="nothing need be sent to the federation",
            )
        issuer_key = key_hash(p256_key(root, "the root"))
        return Revocation(issuer_key, f"{gone.certificate.serial_number:x}", reason.value, gone.since)

    def check_key(self) -> None:
        """Raise ConfigError or TrustError if the active intermediate's key could not sign, or others can read it."""
        self._folder.signer()

    def issue(self, request_pem: bytes, now: datetime, *, days: int = DEFAULT_LEAF_DAYS) -> bytes:
        """Return leaf and intermediate, PEM, for a request of a node whose intermediate is kept elsewhere.

        The same request again, after a crash say, is the same certificate and no second one.
        Raises ConfigError (not a request), TrustError (with the reason) or StoreError (register).
        """
        if not 1 <= days <= MAX_LEAF_DAYS:
            raise ConfigError(
                f"a certificate is issued for 1 to {MAX_LEAF_DAYS} days, not {days}",
                hint="ask for others by --days; a node that has its intermediate renews by itself",
            )
        key = requested_key(request_pem, self.identity)
        with only_writer(self._existing()):
            return self.sign(key, now.replace(microsecond=0) + timedelta(days=days), now)

    def sign(self, key: EllipticCurvePublicKey, not_after: datetime, now: datetime) -> bytes:
        """Return leaf and intermediate, PEM, for a key; the caller is the only writer. Raises as `issue` does."""
        now = now.replace(microsecond=0)
        active, intermediate, issuer_key = self._folder.signer()
        record = self.register.by_key(key_hash(key)) if self.register.path.exists() else None
        if record is None:
            if any(issuer.key == key_hash(key) for issuer in self.issuers):
                raise TrustError("the request's key is an intermediate's own", hint="every certificate has a new key")
            refuse_outliving(intermediate, not_after, now)
            not_before = max(now - BACKDATE, intermediate.not_valid_before_utc)
            serial = f"{x509.random_serial_number():x}"
            province = self.identity.province
            record = Issued("leaf", serial, province, key_hash(key), active.key, not_before, not_after, now)
            # Register before signing: a certificate outside the register could never be revoked.
            self.register.enter(record)
        elif record.issuer_key != active.key or now >= record.not_after or self.register.is_revoked(record):
            raise known_key(record)
        validity = (record.not_before, record.not_after)
        leaf = leaf_builder(intermediate, self.identity, key, int(record.serial, 16), validity).sign(
            issuer_key, SHA256()
        )
        # Judge what was signed, not what was meant to be: this is the last moment a mistake can be held back.
        roots = read_roots(read_file(roots_path(self.home), limit=MAX_CHAIN_PEM_BYTES), "the root file")
        verified = verify_chain((leaf, intermediate), roots)
        if verified.identity != self.identity or leaf.public_key() != key:
            raise TrustError("the signed certificate is not the one that was asked for", hint="report this as a bug")
        return leaf.public_bytes(Encoding.PEM) + intermediate.public_bytes(Encoding.PEM)

    def revoke_leaf(self, serial: str, reason: Reason, now: datetime) -> Revocation:
        """Record that a leaf counts no more; return what travels to the federation. Raises ConfigError."""
        with only_writer(self._existing()):
            return self.register.revoke(serial, reason, now.replace(microsecond=0))

    def _step(self, verb: Callable[[Issuers, datetime], Issuers], now: datetime) -> Issuers:
        with only_writer(self._existing()):
            issuers = verb(self.issuers, now.replace(microsecond=0))
            self._folder.write(issuers)
        return issuers

    def _existing(self) -> Path:
        if not self.home.ca.is_dir():
            raise ConfigError(f"{self.home.root} has no intermediate", hint="`pulang ca prepare --home DIR` makes one")
        return self.home.ca


def _refuse_outside_life(certificate: x509.Certificate, now: datetime) -> None:
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise TrustError(
            f"the intermediate counts from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} "
            f"to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            hint="compare this machine's clock with the time of day",
        )
