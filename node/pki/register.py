"""An issuer's register: every certificate it signed and every one it took back, a JSON object a line."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from node.config import ProvinceCode
from node.errors import ConfigError, StoreError, TrustError
from node.files import append_line, read_private
from node.pki.membership import SETTINGS, Revocation, canonical_json, serial_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

MAX_REGISTER_BYTES: Final = 64 * 1024 * 1024
MAX_REVOCATION_BYTES: Final = 4096

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]


class Reason(StrEnum):
    """Why a certificate was taken back. Source: RFC 5280, 5.3.1, those that occur here."""

    KEY_COMPROMISE = "key_compromise"
    CA_COMPROMISE = "ca_compromise"
    AFFILIATION_CHANGED = "affiliation_changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation_of_operation"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Issued:
    """A certificate that exists, or that was about to when the machine stopped."""

    kind: Literal["root", "intermediate", "leaf"]
    serial: Hex
    province: ProvinceCode | None
    key: Hex
    """SHA-256 of the subject's public key (SubjectPublicKeyInfo)."""
    issuer_key: Hex
    """The same of the issuer's."""
    not_before: AwareDatetime
    not_after: AwareDatetime
    registered_at: AwareDatetime


@dataclass(frozen=True, slots=True, config=SETTINGS)
class Revoked:
    """A certificate of this register that counts no more."""

    kind: Literal["revoked"]
    revocation: Revocation


_LINE: Final = TypeAdapter[Issued | Revoked](Annotated[Issued | Revoked, Field(discriminator="kind")])
_REVOCATION: Final = TypeAdapter(Revocation)


class Register:
    """The file of one issuer's folder. Who writes holds `only_writer(folder)`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def issued(self) -> tuple[Issued, ...]:
        """Return every certificate, oldest first. Raises StoreError for a damaged register."""
        return tuple(line for line in self._lines() if isinstance(line, Issued))

    def revocations(self) -> tuple[Revocation, ...]:
        """Return every certificate taken back, oldest first. Raises StoreError for a damaged register."""
        return tuple(line.revocation for line in self._lines() if isinstance(line, Revoked))

    def enter(self, record: Issued | Revoked) -> None:
        """Append a line, durable on return. Raises StoreError."""
        append_line(self.path, canonical_json(_LINE.dump_python(record, mode="json")).decode())

    def by_key(self, key: str) -> Issued | None:
        """Return the certificate of a key, None for a new one."""
        return next((issued for issued in self.issued() if issued.key == key), None)

    def is_revoked(self, record: Issued) -> bool:
        """Whether a certificate of this register was taken back."""
        return any((each.issuer_key, each.serial) == (record.issuer_key, record.serial) for each in self.revocations())

    def revoke(self, serial: str, reason: Reason, now: datetime) -> Revocation:
        """Record that a certificate counts no more; one taken back before keeps its first reason and date.

        serial: hexadecimal, as `pulang cert status` and `openssl x509 -serial` print it. Raises ConfigError.
        """
        serial = serial_text(serial)
        known = next((issued for issued in self.issued() if issued.serial == serial and issued.kind != "root"), None)
        if known is None:
            raise ConfigError(
                f"no certificate in {self.path} has this serial number",
                hint="`pulang cert status` and `pulang ca status` show them; a root goes by `pulang ca revoke`",
            )
        before = next((each for each in self.revocations() if each.serial == serial), None)
        if before is not None:
            return before
        revocation = Revocation(known.issuer_key, serial, reason.value, now)
        self.enter(Revoked("revoked", revocation))
        return revocation

    def _lines(self) -> Iterator[Issued | Revoked]:
        # What follows the last line's end was never acknowledged, so nothing was signed for it.
        lines = read_private(self.path, limit=MAX_REGISTER_BYTES).rpartition(b"\n")[0].splitlines()
        try:
            return iter([_LINE.validate_json(line) for line in lines])
        except ValidationError:
            raise StoreError(
                f"{self.path} is damaged", hint="restore the folder from its backup; sign nothing before that"
            ) from None


def known_key(record: Issued) -> TrustError:
    """Return the refusal of a key that was certified before."""
    return TrustError(
        f"the request's key is in the register already, since {record.registered_at:%Y-%m-%d %H:%M} UTC",
        hint="every certificate has a new key: make a new request, with --discard",
    )


def revocation_json(revocation: Revocation) -> bytes:
    """Return a revocation as the file that travels to the federation."""
    return canonical_json(_REVOCATION.dump_python(revocation, mode="json")) + b"\n"


def read_revocation(data: bytes) -> Revocation:
    """Read a revocation that travelled. Raises ConfigError."""
    try:
        return _REVOCATION.validate_json(data)
    except ValidationError:
        raise ConfigError(
            "the file is not a revocation", hint="it is written by `pulang cert revoke` or `pulang ca revoke`"
        ) from None


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait for the only writer's place: its work takes milliseconds, and two would cut each other's register."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
