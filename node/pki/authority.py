"""The federation's authority: the folder, kept offline, from which certificates and memberships are signed.

root.key and root.pem (certificates), membership.key and membership.pub (memberships), epoch-1.key (linkage secret),
issued.jsonl (register of every certificate), members.json (the list as it stands). The folder is 0700.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from matching.keys import SECRET_BYTES
from node.config import FederationName, ProvinceCode
from node.epoch import read_epoch_secret
from node.errors import ConfigError, StoreError, TrustError
from node.files import PUBLIC, append_line, make_private_folder, read_file, read_private, sync_folder, write_atomic
from node.pki.identity import FEDERATION, PROVINCE, Identity, identity_in
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
from node.pki.profile import leaf_builder, p256_key, root_builder
from node.pki.trust import read_roots, verify_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

ROOT_LIFE: Final = timedelta(days=3653)  # ten years: twice the federation's agreement
BACKDATE: Final = timedelta(minutes=5)  # clocks of members may lie this far apart
DEFAULT_LEAF_DAYS: Final = 30
MAX_LEAF_DAYS: Final = 90  # without revocation, a stolen key is good for as long as its certificate
DEFAULT_MEMBERSHIP_DAYS: Final = 30
MAX_MEMBERSHIP_DAYS: Final = 90  # a member that was put out stays with those who never see the newer list
MAX_NAME_CHARS: Final = 60  # "p35." before it must fit the 64 characters of a certificate's common name
MAX_REQUEST_BYTES: Final = 16 * 1024
MAX_KEY_BYTES: Final = 4096
MAX_REGISTER_BYTES: Final = 64 * 1024 * 1024

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Issued:
    """One line of the register: a certificate that exists, or that was about to when the machine stopped."""

    kind: Literal["root", "leaf"]
    serial: Hex
    province: ProvinceCode | None
    key: Hex
    """SHA-256 of the subject's public key (SubjectPublicKeyInfo)."""
    not_before: AwareDatetime
    not_after: AwareDatetime
    registered_at: AwareDatetime


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


_ISSUED: Final = TypeAdapter(Issued)
_ROSTER: Final = TypeAdapter(Roster)


class Authority:
    """An existing authority's folder."""

    def __init__(self, folder: Path) -> None:
        """Open a folder. Raises ConfigError if it holds no authority, TrustError if its root is not one."""
        if not _roster(folder).exists():
            raise ConfigError(
                f"{folder} holds no authority", hint="found one with `pulang federation init DIR --name NAME`"
            )
        self.folder = folder
        self.root_pem = read_file(_root(folder), limit=MAX_KEY_BYTES)
        self.anchor_pem = read_file(folder / "membership.pub", limit=MAX_KEY_BYTES)
        (self.root,) = read_roots(self.root_pem, str(_root(folder)))
        self.federation = self._read_roster().federation

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

    def issue(self, request_pem: bytes, province: str, now: datetime, *, days: int = DEFAULT_LEAF_DAYS) -> bytes:
        """Return a PEM certificate for a request that asks for exactly this province.

        Everything but key and names comes from the federation's profile, nothing from the request.
        Raises ConfigError (not a request), TrustError (with the reason) or StoreError (register).
        """
        now = now.replace(microsecond=0)
        if not 1 <= days <= MAX_LEAF_DAYS:
            raise ConfigError(f"a certificate is issued for 1 to {MAX_LEAF_DAYS} days, not {days}")
        identity = _identity(self.federation, province)
        key = _requested_key(request_pem, identity)
        not_before = max(now - BACKDATE, self.root.not_valid_before_utc)
        not_after = now + timedelta(days=days)
        if now < self.root.not_valid_before_utc:
            raise TrustError(
                f"this machine's clock is before the root's beginning, {self.root.not_valid_before_utc:%Y-%m-%d %H:%M}",
                hint="set the clock; a certificate made now would be dated wrong",
            )
        if not_after > self.root.not_valid_after_utc:
            raise TrustError(
                f"the certificate would outlive the root, which ends at {self.root.not_valid_after_utc:%Y-%m-%d}",
                hint="ask for fewer --days; near its end, the federation needs a new root",
            )
        serial = x509.random_serial_number()
        with self._locked():
            self._refuse_known_key(key)
            record = Issued("leaf", f"{serial:x}", province, _key_hash(key), not_before, not_after, now)
            # Register before signing: a certificate outside the register could never be revoked.
            append_line(_register(self.folder), canonical_json(_ISSUED.dump_python(record, mode="json")).decode())
            leaf = leaf_builder(self.root, identity, key, serial, (not_before, not_after)).sign(
                self._root_key(), SHA256()
            )
        # Judge what was signed, not what was meant to be: this is the last moment a mistake can be held back.
        verified = verify_chain((leaf,), (self.root,))
        if verified.identity != identity or leaf.public_key() != key:
            raise TrustError("the signed certificate is not the one that was asked for", hint="report this as a bug")
        verified.check_validity(now)
        return leaf.public_bytes(Encoding.PEM)

    def members(self) -> tuple[Member, ...]:
        """Return the list as it stands, published or not."""
        return self._read_roster().members

    def admit(self, member: Member) -> Roster:
        """Add a member, or change its name and address. Counts for others once published."""
        with self._locked():
            roster = self._read_roster()
            others = tuple(other for other in roster.members if other.code != member.code)
            return self._write_members(roster, (*others, member))

    def remove(self, province: str) -> Roster:
        """Take a member off the list. Counts for others once published. Raises ConfigError if it is not on it."""
        with self._locked():
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
        with self._locked():
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
                members=roster.members,
                epochs=roster.epochs,
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
        with self._locked():
            roster = self._read_roster()
            epochs = change(roster.epochs or self._first_epoch(roster))
            self._write_roster(replace(roster, epochs=epochs))
            return epochs

    def epoch_secret(self, epoch: int) -> Path:
        """Return where the linkage secret of an epoch lies; it goes to each member by a safe hand."""
        return self.folder / f"epoch-{epoch}.key"

    def register(self) -> tuple[Issued, ...]:
        """Return every line of the register, oldest first. Raises StoreError for a damaged one."""
        path = _register(self.folder)
        # What follows the last line's end was never acknowledged, so nothing was signed for it.
        lines = read_private(path, limit=MAX_REGISTER_BYTES).rpartition(b"\n")[0].splitlines()
        try:
            return tuple(_ISSUED.validate_json(line) for line in lines)
        except ValidationError:
            raise StoreError(
                f"{path} is damaged", hint="restore the folder from its backup; sign nothing before that"
            ) from None

    def _first_epoch(self, roster: Roster) -> tuple[Epoch, ...]:
        secret = read_epoch_secret(self.epoch_secret(roster.key_epoch))
        return (Epoch(roster.key_epoch, epoch_check(secret, roster.key_epoch), EpochState.ACTIVE),)

    def _refuse_known_key(self, key: EllipticCurvePublicKey) -> None:
        known = next((issued for issued in self.register() if issued.key == _key_hash(key)), None)
        if known is not None:
            raise TrustError(
                f"the request's key is in the register already, since {known.registered_at:%Y-%m-%d %H:%M} UTC",
                hint="every certificate has a new key: `pulang cert request --discard`",
            )

    def _root_key(self) -> EllipticCurvePrivateKey:
        path = self.folder / "root.key"
        key = _read_private_key(path)
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != self.root.public_key():
            raise TrustError(f"{path} is not the key of {_root(self.folder)}", hint="restore the folder's backup")
        return key

    def _membership_key(self) -> Ed25519PrivateKey:
        path = self.folder / "membership.key"
        key = _read_private_key(path)
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

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait for the only writer's place: its work takes milliseconds, and two would cut each other's register."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _fill(folder: Path, federation: str, now: datetime) -> None:
    root_key, membership_key = generate_private_key(SECP256R1()), Ed25519PrivateKey.generate()
    serial = x509.random_serial_number()
    validity = (now - BACKDATE, now + ROOT_LIFE)
    root = root_builder(federation, root_key.public_key(), serial, validity).sign(root_key, SHA256())
    record = Issued(
        kind="root",
        serial=f"{serial:x}",
        province=None,
        key=_key_hash(root_key.public_key()),
        not_before=root.not_valid_before_utc,
        not_after=root.not_valid_after_utc,
        registered_at=now,
    )
    write_atomic(folder / "root.key", _private_pem(root_key))
    write_atomic(_root(folder), root.public_bytes(Encoding.PEM), mode=PUBLIC)
    write_atomic(folder / "membership.key", _private_pem(membership_key))
    write_atomic(folder / "membership.pub", _anchor_pem(membership_key), mode=PUBLIC)
    write_atomic(folder / "epoch-1.key", secrets.token_hex(SECRET_BYTES).encode() + b"\n")
    append_line(_register(folder), canonical_json(_ISSUED.dump_python(record, mode="json")).decode())
    roster = Roster(federation=federation, version=0, key_epoch=1, members=())
    write_atomic(_roster(folder), canonical_json(_ROSTER.dump_python(roster, mode="json")) + b"\n")


def _requested_key(request_pem: bytes, identity: Identity) -> EllipticCurvePublicKey:
    """Return the key of a request that asks for exactly `identity`, and nothing else."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
        extensions = request.extensions
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ConfigError(
            "the request file is not a whole PEM certificate request",
            hint="copy it again from the node that made it with `pulang cert request`",
        ) from None
    key = p256_key(request, "the request")
    if not request.is_signature_valid:
        raise TrustError(
            "the request's signature is wrong: it was changed on its way, or its sender does not hold the key",
            hint="ask the province for the request again, by a safe hand",
        )
    try:
        asked = identity_in(extensions)
    except TrustError as error:
        raise TrustError(f"the request is refused: {error}", hint="make it with `pulang cert request`") from None
    if asked != identity:
        raise TrustError(
            f"the request is of {asked}, and the certificate would be of {identity}",
            hint="name the province whose request this is, or ask for the right file",
        )
    if len(extensions) != 1:
        raise TrustError("the request asks for more than its names", hint="make it with `pulang cert request`")
    return key


def _identity(federation: str, province: str) -> Identity:
    if not PROVINCE.fullmatch(province):
        raise ConfigError(f"{province!r} is not a province's code", hint="two digits, such as 35 for Jawa Timur")
    return Identity(federation, province)


def _read_private_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(read_private(path, limit=MAX_KEY_BYTES), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} is not a whole private key", hint="restore the folder from its backup") from None


def _private_pem(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _anchor_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _key_hash(key: EllipticCurvePublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _root(folder: Path) -> Path:
    return folder / "root.pem"


def _register(folder: Path) -> Path:
    return folder / "issued.jsonl"


def _roster(folder: Path) -> Path:
    return folder / "members.json"


def _taken(folder: Path) -> ConfigError:
    what = "an authority" if _roster(folder).exists() else "files"
    return ConfigError(
        f"{folder} holds {what} already",
        hint="an authority is never made anew over an old one: name another folder",
    )
