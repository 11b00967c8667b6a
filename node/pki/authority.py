"""The federation's authority of certificates: the folder, kept offline, from which intermediates are signed.

roots/ (stages.json, N.key: the roots, at most two at a time) and root.pem (their bundle, for the members),
epoch-1.key (the first linkage secret), issued.jsonl (register of every certificate), intermediates/ (each as it was
issued). The folder is 0700. Who is a member is not decided here: see `node/pki/proposal.py`.
"""

from __future__ import annotations

import secrets
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from matching.keys import SECRET_BYTES
from node.errors import ConfigError, TrustError
from node.files import PUBLIC, make_private_folder, read_file, sync_folder, write_atomic
from node.pki.identity import FEDERATION, PROVINCE, Identity
from node.pki.keys import key_hash, new_key, private_pem
from node.pki.profile import BACKDATE, intermediate_builder, organization, refuse_outliving, root_builder
from node.pki.register import Issued, Register, known_key, only_writer
from node.pki.request import requested_key
from node.pki.stages import (
    Issuer,
    IssuerFolder,
    Issuers,
    Stage,
    activated,
    find,
    refuse_second_successor,
    revoked,
    tainted,
    trusted,
)
from node.pki.trust import MAX_CHAIN_PEM_BYTES, read_roots, verify_intermediate

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from node.pki.membership import Revocation
    from node.pki.register import Reason

ROOT_LIFE: Final = timedelta(days=3653)  # ten years: twice the federation's agreement
DEFAULT_INTERMEDIATE_DAYS: Final = 365
MAX_INTERMEDIATE_DAYS: Final = 731  # two years: every province does a roll before its people have changed
MAX_NAME_CHARS: Final = 60  # "p35." before it must fit the 64 characters of a certificate's common name


class Authority:
    """An existing authority's folder."""

    def __init__(self, folder: Path) -> None:
        """Open a folder. Raises ConfigError if it holds no authority, StoreError or TrustError for a damaged one."""
        self.folder = folder
        self.register = Register(folder / "issued.jsonl")
        self._roots = IssuerFolder(folder / "roots")
        if not (issuers := self.issuers):
            raise ConfigError(
                f"{folder} holds no authority", hint="found one with `pulang federation authority DIR --name NAME`"
            )
        self.federation = organization(issuers[-1].certificate)

    @property
    def issuers(self) -> Issuers:
        """Every root there ever was, oldest first, with its stage."""
        return self._roots.read()

    @property
    def root(self) -> x509.Certificate:
        """The root that signs. Raises ConfigError when none does."""
        active = find(self.issuers, Stage.ACTIVE)
        if active is None:
            raise ConfigError(f"{self.folder} has no active root", hint="`pulang ca status` shows what is missing")
        return active.certificate

    @property
    def roots(self) -> tuple[str, ...]:
        """The roots that members trust, PEM, oldest first: two while one replaces the other."""
        return tuple(issuer.pem for issuer in trusted(self.issuers) if issuer.pem)

    @property
    def root_pem(self) -> bytes:
        """The same as one file."""
        return "".join(self.roots).encode()

    @classmethod
    def found(cls, folder: Path, federation: str, now: datetime) -> Self:
        """Make a new authority: root, first linkage secret, register.

        The folder appears whole or not at all; one that holds anything is refused. Raises ConfigError or StoreError.
        """
        if not FEDERATION.fullmatch(federation) or len(federation) > MAX_NAME_CHARS:
            raise ConfigError(
                f"a federation's name is at most {MAX_NAME_CHARS} of a-z, 0-9, '-' and '.', such as fkd-mpu"
            )
        folder = folder.absolute()
        staging = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
        make_private_folder(staging)
        try:
            _fill(staging, federation, now.replace(microsecond=0))
            try:
                staging.rename(folder)  # replaces an empty folder, fails on any other
            except OSError:
                raise _taken(folder) from None
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return cls(folder)

    # --- roots ---

    def prepare(self, now: datetime) -> Issuer:
        """Make the next root: trusted from now on, not yet signing. One that is prepared already is returned."""
        now = now.replace(microsecond=0)
        with only_writer(self.folder):
            issuers = self.issuers
            ready = find(issuers, Stage.PREPARED)
            if ready is None:
                refuse_second_successor(issuers)
                ready = _make_root(self._roots, self.register, self.federation, len(issuers) + 1, now)
                self._roots.write((*issuers, ready))
            self._write_bundle()
            return ready

    def activate(self, now: datetime) -> Issuers:
        """Let the prepared root sign; the one before signs no more. Raises TrustError out of order."""
        return self._step(activated, now)

    def taint(self, now: datetime) -> Issuers:
        """Say that whatever the old root signed must be reissued, and delete its key. Raises TrustError."""
        return self._step(tainted, now)

    def revoke(self, now: datetime, *, force: bool = False) -> Issuers:
        """Take the tainted root out of the bundle. Raises TrustError out of order.

        Without `force` also while a province has no other intermediate that counts: it would be cut off.
        """
        bad = find(self.issuers, Stage.TAINTED)
        hanging = [] if bad is None else self._hanging(bad, now)
        if hanging and not force:
            raise TrustError(
                f"intermediates of provinces {', '.join(hanging)} hang on the tainted root and on no other",
                hint="issue them new ones first: `pulang ca issue`; --force cuts these provinces off at once",
            )
        return self._step(revoked, now)

    def _hanging(self, root: Issuer, now: datetime) -> list[str]:
        taken_back = {revocation.serial for revocation in self.register.revocations()}
        issuers_of: dict[str, set[str]] = {}
        for issued in self.register.issued():
            counts = issued.serial not in taken_back and now < issued.not_after and self.stored(issued).exists()
            if issued.kind == "intermediate" and issued.province and counts:
                issuers_of.setdefault(issued.province, set()).add(issued.issuer_key)
        return sorted(province for province, keys in issuers_of.items() if keys == {root.key})

    def _step(self, verb: Callable[[Issuers, datetime], Issuers], now: datetime) -> Issuers:
        with only_writer(self.folder):
            issuers = verb(self.issuers, now.replace(microsecond=0))
            self._roots.write(issuers)
            self._write_bundle()
        return issuers

    def _write_bundle(self) -> None:
        write_atomic(self.folder / "root.pem", self.root_pem, mode=PUBLIC, replace=True)

    # --- intermediates ---

    def issue_intermediate(
        self, request_pem: bytes, province: str, now: datetime, *, days: int = DEFAULT_INTERMEDIATE_DAYS
    ) -> bytes:
        """Return the PEM certificate of a province's intermediate, for a request that asks for exactly this province.

        Everything but key and names comes from the federation's profile, nothing from the request. The same request
        again, after a crash say, gives the same certificate and no second one.
        Raises ConfigError (not a request), TrustError (with the reason) or StoreError (register).
        """
        now = now.replace(microsecond=0)
        if not 1 <= days <= MAX_INTERMEDIATE_DAYS:
            raise ConfigError(
                f"an intermediate is issued for 1 to {MAX_INTERMEDIATE_DAYS} days, not {days}",
                hint="ask for others by --days; a longer life would outlast those who know how to roll it",
            )
        identity = _identity(self.federation, province)
        key = requested_key(request_pem, identity)
        with only_writer(self.folder):
            active, root, root_key = self._roots.signer()
            record = self.register.by_key(key_hash(key))
            if record is None:
                record = Issued(
                    "intermediate",
                    f"{x509.random_serial_number():x}",
                    province,
                    key_hash(key),
                    active.key,
                    max(now - BACKDATE, root.not_valid_before_utc),
                    now + timedelta(days=days),
                    now,
                )
                refuse_outliving(root, record.not_after, now)
                # Register before signing: a certificate outside the register could never be revoked.
                self.register.enter(record)
            elif (
                (record.kind, record.province, record.issuer_key) != ("intermediate", province, active.key)
                or now >= record.not_after
                or self.register.is_revoked(record)
            ):
                raise known_key(record)
            stored = self.stored(record)
            if not stored.exists():
                validity = (record.not_before, record.not_after)
                made = intermediate_builder(root, identity, key, int(record.serial, 16), validity).sign(
                    root_key, SHA256()
                )
                # Judge what was signed, not what was meant: this is the last moment a mistake can be held back.
                verify_intermediate(made, identity, (root,))
                make_private_folder(stored.parent)
                write_atomic(stored, made.public_bytes(Encoding.PEM), mode=PUBLIC, replace=True)
            return read_file(stored, limit=MAX_CHAIN_PEM_BYTES)

    def revoke_intermediate(self, serial: str, reason: Reason, now: datetime) -> Revocation:
        """Record that an intermediate counts no more; return what travels to the federation. Raises ConfigError."""
        with only_writer(self.folder):
            return self.register.revoke(serial, reason, now.replace(microsecond=0))

    def stored(self, issued: Issued) -> Path:
        """Return where an intermediate lies as it was issued."""
        return self.folder / "intermediates" / f"{issued.serial}.pem"

    def epoch_secret(self, epoch: int) -> Path:
        """Return where the linkage secret of an epoch lies; it goes to each member by a safe hand."""
        return self.folder / f"epoch-{epoch}.key"


def _fill(folder: Path, federation: str, now: datetime) -> None:
    make_private_folder(folder / "roots")
    roots, register = IssuerFolder(folder / "roots"), Register(folder / "issued.jsonl")
    prepared = (_make_root(roots, register, federation, 1, now),)
    roots.write(activated(prepared, now))
    write_atomic(folder / "root.pem", str(prepared[0].pem).encode(), mode=PUBLIC)
    write_atomic(folder / "epoch-1.key", secrets.token_hex(SECRET_BYTES).encode() + b"\n")


def _make_root(folder: IssuerFolder, register: Register, federation: str, number: int, now: datetime) -> Issuer:
    """Write a root's key, register it, sign it. It counts once stages.json names it."""
    key = new_key()
    write_atomic(folder.key_path(number), private_pem(key), replace=True)
    serial, validity = x509.random_serial_number(), (now - BACKDATE, now + ROOT_LIFE)
    name = key_hash(key.public_key())
    register.enter(Issued("root", f"{serial:x}", None, name, name, *validity, now))
    root = root_builder(federation, key.public_key(), serial, validity).sign(key, SHA256())
    pem = root.public_bytes(Encoding.PEM)
    read_roots(pem, "the new root")
    return Issuer(number, Stage.PREPARED, now, name, pem.decode("ascii"))


def _identity(federation: str, province: str) -> Identity:
    if not PROVINCE.fullmatch(province):
        raise ConfigError(f"{province!r} is not a province's code", hint="two digits, such as 35 for Jawa Timur")
    return Identity(federation, province)


def _taken(folder: Path) -> ConfigError:
    what = "an authority" if IssuerFolder(folder / "roots").path.exists() else "files"
    return ConfigError(
        f"{folder} holds {what} already",
        hint="an authority is never made anew over an old one: name another folder",
    )
