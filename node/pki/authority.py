"""The federation's authority: the folder, kept offline, from which intermediates and memberships are signed.

roots/ (stages.json, N.key: the roots, at most two at a time) and root.pem (their bundle, for the members),
membership.key and membership.pub (memberships), epoch-1.key (linkage secret), issued.jsonl (register of every
certificate), intermediates/ (each as it was issued), members.json (the list as it stands). The folder is 0700.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from matching.keys import SECRET_BYTES
from node.config import FederationName
from node.epoch import read_epoch_secret
from node.errors import ConfigError, StoreError, TrustError
from node.files import PUBLIC, make_private_folder, read_file, read_private, sync_folder, write_atomic
from node.pki.identity import FEDERATION, PROVINCE, Identity
from node.pki.keys import MAX_KEY_BYTES, key_hash, new_key, private_pem, read_private_key
from node.pki.membership import (
    SETTINGS,
    Epoch,
    EpochState,
    Member,
    Membership,
    canonical_json,
    check_epochs,
    check_members,
    epoch_check,
    sign_membership,
)
from node.pki.profile import BACKDATE, intermediate_builder, refuse_outliving, root_builder
from node.pki.register import MAX_REGISTER_BYTES, Issued, Register, known_key, only_writer
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
DEFAULT_MEMBERSHIP_DAYS: Final = 30
MAX_MEMBERSHIP_DAYS: Final = 90  # a member that was put out stays with those who never see the newer list
MAX_NAME_CHARS: Final = 60  # "p35." before it must fit the 64 characters of a certificate's common name


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Roster:
    """The members as the authority knows them, and the last version it may have signed."""

    federation: FederationName
    version: Annotated[int, Field(ge=0)]
    key_epoch: Annotated[int, Field(ge=1)]
    members: tuple[Member, ...]
    epochs: tuple[Epoch, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_members(self.members)
        if self.epochs:
            check_epochs(self.epochs)
        return self


_ROSTER: Final = TypeAdapter(Roster)


class Authority:
    """An existing authority's folder."""

    def __init__(self, folder: Path) -> None:
        """Open a folder. Raises ConfigError if it holds no authority, StoreError or TrustError for a damaged one."""
        if not _roster(folder).exists():
            raise ConfigError(
                f"{folder} holds no authority", hint="found one with `pulang federation init DIR --name NAME`"
            )
        self.folder = folder
        self.anchor_pem = read_file(folder / "membership.pub", limit=MAX_KEY_BYTES)
        self.federation = self._read_roster().federation
        self.register = Register(folder / "issued.jsonl")
        self._roots = IssuerFolder(folder / "roots")

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
    def found(cls, folder: Path, federation: str, now: datetime) -> Authority:
        """Make a new authority: root, signing key, linkage secret, empty register and list.

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
            counts = issued.serial not in taken_back and now < issued.not_after and self._stored(issued).exists()
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
            raise ConfigError(f"an intermediate is issued for 1 to {MAX_INTERMEDIATE_DAYS} days, not {days}")
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
            elif (record.kind, record.province) != ("intermediate", province) or record.issuer_key != active.key:
                raise known_key(record)
            stored = self._stored(record)
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

    def intermediates(self, province: str, now: datetime) -> tuple[str, ...]:
        """Return a province's intermediates that count at `now`, PEM, oldest first, as the membership lists them."""
        taken_back = {(revocation.issuer_key, revocation.serial) for revocation in self.register.revocations()}
        counting = {issuer.key for issuer in trusted(self.issuers)}
        return tuple(
            read_file(self._stored(issued), limit=MAX_CHAIN_PEM_BYTES).decode("ascii")
            for issued in self.register.issued()
            if issued.kind == "intermediate"
            and issued.province == province
            and issued.issuer_key in counting
            and (issued.issuer_key, issued.serial) not in taken_back
            and now < issued.not_after
            and self._stored(issued).exists()
        )

    def revoke_intermediate(self, serial: str, reason: Reason, now: datetime) -> Revocation:
        """Take an intermediate back: it leaves the membership and stands among the revoked. Raises ConfigError."""
        with only_writer(self.folder):
            return self.register.revoke(serial, reason, now.replace(microsecond=0))

    def _stored(self, issued: Issued) -> Path:
        return self.folder / "intermediates" / f"{issued.serial}.pem"

    # --- members ---

    def members(self) -> tuple[Member, ...]:
        """Return the list as it stands, published or not."""
        return self._read_roster().members

    def admit(self, member: Member) -> Roster:
        """Add a member, or change its name and address. Counts for others once published."""
        with only_writer(self.folder):
            roster = self._read_roster()
            others = tuple(other for other in roster.members if other.code != member.code)
            return self._write_members(roster, (*others, member))

    def remove(self, province: str) -> Roster:
        """Take a member off the list. Counts for others once published. Raises ConfigError if it is not on it."""
        with only_writer(self.folder):
            roster = self._read_roster()
            others = tuple(other for other in roster.members if other.code != province)
            if len(others) == len(roster.members):
                raise ConfigError(f"province {province} is not a member of {self.federation}")
            return self._write_members(roster, others)

    def publish(self, now: datetime, *, days: int = DEFAULT_MEMBERSHIP_DAYS) -> tuple[Membership, bytes]:
        """Sign the list as the next version. Returns it and the file for the members. Raises ConfigError."""
        now = now.replace(microsecond=0)
        if not 1 <= days <= MAX_MEMBERSHIP_DAYS:
            raise ConfigError(f"a membership is published for 1 to {MAX_MEMBERSHIP_DAYS} days, not {days}")
        with only_writer(self.folder):
            roster = self._read_roster()
            if not roster.members:
                raise ConfigError(
                    f"{self.federation} has no members yet", hint="`pulang federation admit --province CODE` first"
                )
            roster = replace(roster, version=roster.version + 1)
            epochs = roster.epochs or self._first_epoch(roster)
            active = next(epoch for epoch in epochs if epoch.state is EpochState.ACTIVE)
            membership = Membership(
                federation=roster.federation,
                version=roster.version,
                issued_at=now,
                expires_at=now + timedelta(days=days),
                key_epoch=active.number,
                epoch_check=active.check,
                epochs=roster.epochs,
                members=tuple(
                    replace(member, intermediates=self.intermediates(member.code, now)) for member in roster.members
                ),
                roots=self.roots,
                revoked=self.register.revocations(),
            )
            # Count before signing: two different lists must never carry one version.
            self._write_roster(roster)
            return membership, sign_membership(membership, self._membership_key())

    def epochs(self) -> tuple[Epoch, ...]:
        """Return the valid epochs as they stand, published or not."""
        roster = self._read_roster()
        return roster.epochs or self._first_epoch(roster)

    def set_epochs(self, change: Callable[[tuple[Epoch, ...]], tuple[Epoch, ...]]) -> tuple[Epoch, ...]:
        """Take the epochs to another stage. Counts for others once published. Raises what `change` raises."""
        with only_writer(self.folder):
            roster = self._read_roster()
            epochs = change(roster.epochs or self._first_epoch(roster))
            self._write_roster(replace(roster, epochs=epochs))
            return epochs

    def epoch_secret(self, epoch: int) -> Path:
        """Return where the linkage secret of an epoch lies; it goes to each member by a safe hand."""
        return self.folder / f"epoch-{epoch}.key"

    def _first_epoch(self, roster: Roster) -> tuple[Epoch, ...]:
        secret = read_epoch_secret(self.epoch_secret(roster.key_epoch))
        return (Epoch(roster.key_epoch, epoch_check(secret, roster.key_epoch), EpochState.ACTIVE),)

    def _membership_key(self) -> Ed25519PrivateKey:
        path = self.folder / "membership.key"
        key = read_private_key(path)
        if not isinstance(key, Ed25519PrivateKey) or _anchor_pem(key) != self.anchor_pem:
            raise TrustError(f"{path} is not the key of membership.pub", hint="restore the folder's backup")
        return key

    def _read_roster(self) -> Roster:
        path = _roster(self.folder)
        try:
            return _ROSTER.validate_json(read_private(path, limit=MAX_REGISTER_BYTES))
        except ValidationError:
            raise StoreError(f"{path} is damaged", hint="restore the folder from its backup") from None

    def _write_members(self, roster: Roster, members: tuple[Member, ...]) -> Roster:
        try:
            changed = replace(roster, members=tuple(sorted(members, key=lambda member: member.code)))
        except ValidationError:
            raise ConfigError(
                "two members cannot have the same address", hint="each province's node has an address of its own"
            ) from None
        self._write_roster(changed)
        return changed

    def _write_roster(self, roster: Roster) -> None:
        write_atomic(
            _roster(self.folder), canonical_json(_ROSTER.dump_python(roster, mode="json")) + b"\n", replace=True
        )


def _fill(folder: Path, federation: str, now: datetime) -> None:
    make_private_folder(folder / "roots")
    roots, register = IssuerFolder(folder / "roots"), Register(folder / "issued.jsonl")
    prepared = (_make_root(roots, register, federation, 1, now),)
    roots.write(activated(prepared, now))
    membership_key = Ed25519PrivateKey.generate()
    write_atomic(folder / "root.pem", str(prepared[0].pem).encode(), mode=PUBLIC)
    write_atomic(folder / "membership.key", private_pem(membership_key))
    write_atomic(folder / "membership.pub", _anchor_pem(membership_key), mode=PUBLIC)
    write_atomic(folder / "epoch-1.key", secrets.token_hex(SECRET_BYTES).encode() + b"\n")
    roster = Roster(federation=federation, version=0, key_epoch=1, members=())
    write_atomic(_roster(folder), canonical_json(_ROSTER.dump_python(roster, mode="json")) + b"\n")


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


def _anchor_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _roster(folder: Path) -> Path:
    return folder / "members.json"


def _taken(folder: Path) -> ConfigError:
    what = "an authority" if _roster(folder).exists() else "files"
    return ConfigError(
        f"{folder} holds {what} already",
        hint="an authority is never made anew over an old one: name another folder",
    )
