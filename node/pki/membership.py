"""The list of the federation's members as plain values, and every rule such a list must keep."""

from __future__ import annotations

import hmac
import json
from dataclasses import KW_ONLY
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from node.config import Address, FederationName, ProvinceCode, complaints
from node.errors import ConfigError, MembershipEndedError

if TYPE_CHECKING:
    from datetime import datetime

MAX_MEMBERS: Final = 99  # as many as there are two-digit province codes
CLOCK_TOLERANCE: Final = timedelta(minutes=5)  # how far clocks of members may lie apart
SETTINGS: Final = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Member:
    """One province in the federation, and where its node answers."""

    code: ProvinceCode
    name: Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")]
    address: Address
    intermediates: tuple[str, ...] = ()
    """Its intermediate authorities, PEM: certificates of its node are accepted under these alone."""
    encryption_key: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})*$", max_length=4096)] = ""
    """Public key its epoch secrets are sealed to (HPKE), hexadecimal."""


class EpochState(StrEnum):
    """Where an epoch of the linkage key stands in the federation."""

    NEXT = "next"  # its secret is out, indexes are being encoded; who is ready answers in it, nobody asks in it
    ACTIVE = "active"  # questions are asked in it
    OLD = "old"  # still answered, until everybody has the new one


# The only stages there are: one epoch; the next is prepared; the new one is active and the old one still answered.
STAGES: Final = frozenset(
    {(EpochState.ACTIVE,), (EpochState.ACTIVE, EpochState.NEXT), (EpochState.OLD, EpochState.ACTIVE)}
)


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Epoch:
    """One valid epoch. check: what `epoch_check` gives for its secret."""

    number: Annotated[int, Field(ge=1, lt=2**31)]
    check: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    state: EpochState


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Revocation:
    """One certificate, leaf or intermediate, that counts no more, whatever its dates say."""

    issuer_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the issuer's SubjectPublicKeyInfo."""
    serial: Annotated[str, StringConstraints(pattern=r"^[1-9a-f][0-9a-f]*$", max_length=64)]
    """As `serial_text` writes it: a serial in any other spelling would match no certificate, and revoke none."""
    reason: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    revoked_at: AwareDatetime


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Membership:
    """Who belongs to the federation, in one version of the list."""

    _: KW_ONLY
    federation: FederationName
    version: Annotated[int, Field(ge=1, lt=2**53)]  # 2**53: beyond it JSON readers differ
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    key_epoch: Annotated[int, Field(ge=1, lt=2**32)]
    epoch_check: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """What `epoch_check` gives for the epoch's secret: tells a wrong secret before it answers "none here"."""
    members: Annotated[tuple[Member, ...], Field(max_length=MAX_MEMBERS)]
    roots: tuple[str, ...] = ()
    """The federation's roots, PEM: two while one replaces the other."""
    revoked: tuple[Revocation, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    """Every epoch that is valid now, ascending; exactly one of them is active."""
    schema_fingerprint: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the linkage schema everybody encodes by, hexadecimal."""
    superseded_by: int | None = None
    """A later timestamp's version that this node has seen: what is older must not come back with a backup."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_members(self.members)
        if self.epochs:
            check_epochs(self.epochs)
            if (self.key_epoch, self.epoch_check) != (self.active_epoch.number, self.active_epoch.check):
                raise ValueError("key_epoch and epoch_check are not those of the active epoch")
        return self

    @property
    def valid_epochs(self) -> tuple[Epoch, ...]:
        """Every epoch questions may come in, ascending; a list without epochs has one, its key_epoch."""
        return self.epochs or (Epoch(self.key_epoch, self.epoch_check, EpochState.ACTIVE),)

    @property
    def active_epoch(self) -> Epoch:
        """The epoch questions are asked in."""
        return next(epoch for epoch in self.valid_epochs if epoch.state is EpochState.ACTIVE)

    def epoch(self, number: int) -> Epoch | None:
        """Return a valid epoch, None when this number is none."""
        return next((epoch for epoch in self.valid_epochs if epoch.number == number), None)

    def by_code(self, code: str) -> Member | None:
        """Return the member of a province, None if it is not one."""
        return next((member for member in self.members if member.code == code), None)

    def check_validity(self, now: datetime) -> None:
        """Raise MembershipEndedError when the list does not count: who was put out could otherwise stay for ever."""
        if self.superseded_by is not None:
            raise MembershipEndedError(
                f"the membership of {self.federation} here is older than what this node has already seen",
                hint="it came back with a backup; the newest comes by itself from any other node that is reached",
            )
        if now >= self.expires_at:
            raise MembershipEndedError(
                f"the membership of {self.federation}, version {self.version}, expired at "
                f"{self.expires_at:%Y-%m-%d %H:%M} UTC",
                hint="a new one comes by itself from any other node; see whether one is reached, and who signs",
            )
        if now < self.issued_at - CLOCK_TOLERANCE:
            raise MembershipEndedError(
                f"the membership of {self.federation}, version {self.version}, is dated "
                f"{self.issued_at:%Y-%m-%d %H:%M} UTC, in the future",
                hint="compare this machine's clock with the time of day",
            )


def check_members(members: tuple[Member, ...]) -> None:
    """Raise ValueError unless every code and every address stands in the list once."""
    if len({member.code for member in members}) != len(members):
        raise ValueError("a province stands in it twice")
    if len({member.address for member in members}) != len(members):
        raise ValueError("two provinces have the same address")


def check_epochs(epochs: tuple[Epoch, ...]) -> None:
    """Raise ValueError unless these are the epochs of one stage: the active one, alone or beside its neighbour."""
    stage = tuple(epoch.state for epoch in epochs)
    if stage not in STAGES or any(a.number >= b.number for a, b in pairwise(epochs)):
        raise ValueError("its epochs must be the active one, alone, after an old one, or before the next")


def make_member(
    code: str, name: str, address: str, *, intermediates: tuple[str, ...] = (), encryption_key: str = ""
) -> Member:
    """Check a member that comes from a command line. Raises ConfigError naming every wrong part."""
    try:
        return Member(code=code, name=name, address=address, intermediates=intermediates, encryption_key=encryption_key)
    except ValidationError as error:
        raise ConfigError(f"not a member: {complaints(error)}") from None


def make_revocation(issuer_key: str, serial: str, reason: str, now: datetime) -> Revocation:
    """Check a revocation that comes from a command line. Raises ConfigError naming every wrong part."""
    try:
        return Revocation(
            issuer_key=issuer_key.lower(),
            serial=serial_text(serial),
            reason=reason,
            revoked_at=now.replace(microsecond=0),
        )
    except ValidationError as error:
        raise ConfigError(f"not a revocation: {complaints(error)}") from None


def serial_text(serial: str) -> str:
    """Return a hexadecimal serial number in its one form here, from any that openssl or a person writes.

    openssl fills up to whole bytes (`0A1B`), which one serial in eight needs, or puts colons between them.
    """
    return serial.lower().replace(":", "").lstrip("0")


def make_epoch(number: int, check: str, state: EpochState) -> Epoch:
    """Check an epoch that comes from a command line. Raises ConfigError naming every wrong part."""
    try:
        return Epoch(number=number, check=check, state=state)
    except ValidationError as error:
        raise ConfigError(f"not an epoch: {complaints(error)}") from None


def canonical_json(value: Any) -> bytes:
    """Return the one byte form of a JSON value here: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def epoch_check(secret: bytes, epoch: int) -> str:
    """Return a public check value of an epoch's secret: 128 bits of HMAC-SHA256, hexadecimal.

    It says nothing usable about a secret of 32 random bytes, and shows a member with a wrong one before its questions
    find nobody anywhere and look like "not registered".
    """
    return hmac.digest(secret, b"pulang/epoch-check/1" + epoch.to_bytes(4, "little"), "sha256").hex()[:32]
