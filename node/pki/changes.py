"""What signers decide about, in pure functions: contents in, changed contents out; a change in words for people."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from matching.schema import PERSON_SCHEMA
from node.config import complaints
from node.errors import ConfigError, TrustError
from node.pki.epoch_secrets import is_public_key
from node.pki.epochs import sealed_name
from node.pki.keys import key_hash
from node.pki.membership import Epoch, EpochState, Member, Membership, Revocation
from node.pki.profile import p256_key
from node.pki.repository import TARGETS_LIFE, Contents
from node.pki.trust import judge_intermediates, read_certificates, read_roots

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from node.pki.repository import Files, Signer

DEFAULT_THRESHOLD: Final = 6  # of ten provinces


def founding(
    federation: str,
    signers: tuple[Signer, ...],
    threshold: int,
    holders: tuple[Signer, ...],
    *,
    epoch_check: str,
    now: datetime,
    roots: tuple[str, ...] = (),
) -> Contents:
    """Return the contents of a new federation: no members yet, key epoch 1. Raises ConfigError."""
    try:
        membership = Membership(
            federation=federation,
            version=1,
            issued_at=now,
            expires_at=now + TARGETS_LIFE,
            key_epoch=1,
            epoch_check=epoch_check,
            members=(),
            roots=roots,
            epochs=(Epoch(1, epoch_check, EpochState.ACTIVE),),
            schema_fingerprint=PERSON_SCHEMA.fingerprint.hex(),
        )
    except ValidationError as error:
        raise ConfigError(f"not a federation: {complaints(error)}") from None
    contents = Contents(membership, signers, threshold, holders)
    contents.check()
    return contents


def with_member(contents: Contents, member: Member) -> Contents:
    """Admit a member, or put another in the place of one with the same code. Raises ConfigError."""
    others = tuple(other for other in contents.membership.members if other.code != member.code)
    return _with(contents, members=tuple(sorted((*others, member), key=lambda each: each.code)))


def without_member(contents: Contents, code: str) -> Contents:
    """Put a member out, and its sealed secrets with it. Raises ConfigError if it is none."""
    member_of(contents, code)
    members = tuple(other for other in contents.membership.members if other.code != code)
    kept = {path: data for path, data in contents.targets.items() if not path.endswith(f"/{code}.sealed")}
    return replace(_with(contents, members=members), targets=kept)


def member_of(contents: Contents, code: str) -> Member:
    """Return a member. Raises ConfigError if it is none."""
    member = contents.membership.by_code(code)
    if member is None:
        raise ConfigError(f"province {code} is not a member of {contents.membership.federation}")
    return member


def with_roots(contents: Contents, add: Iterable[str], remove: Iterable[str]) -> Contents:
    """Add and remove certificate roots (PEM). Raises ConfigError for one to remove that is not there."""
    roots = [root for root in contents.membership.roots if root not in add]
    for root in remove:
        if root not in roots:
            raise ConfigError("a root that is to be removed is not among the published ones")
        roots.remove(root)
    return _with(contents, roots=(*roots, *add))


def with_revocation(contents: Contents, revocation: Revocation) -> Contents:
    """Revoke one certificate. A second time changes nothing."""
    known = {(each.issuer_key, each.serial) for each in contents.membership.revoked}
    if (revocation.issuer_key, revocation.serial) in known:
        return contents
    return _with(contents, revoked=(*contents.membership.revoked, revocation))


def with_epoch(contents: Contents, epoch: Epoch, sealed: Files) -> Contents:
    """Put an epoch in; one that becomes active makes the one before old. sealed: path -> secret sealed to a member."""
    others = [each for each in contents.membership.epochs if each.number != epoch.number]
    named = {}
    if epoch.state is EpochState.ACTIVE:
        others = [replace(each, state=EpochState.OLD) if each.state is epoch.state else each for each in others]
        named = {"key_epoch": epoch.number, "epoch_check": epoch.check}
    epochs = tuple(sorted((*others, epoch), key=lambda each: each.number))
    return replace(_with(contents, epochs=epochs, **named), targets={**contents.targets, **sealed})


def without_epoch(contents: Contents, number: int) -> Contents:
    """End an epoch, and take its sealed secrets away. Raises ConfigError for the active one, or one not there."""
    found = next((each for each in contents.membership.epochs if each.number == number), None)
    if found is None or found.state is EpochState.ACTIVE:
        raise ConfigError(f"epoch {number} is the active one, or is not there", hint="make another one active first")
    kept = {path: data for path, data in contents.targets.items() if not path.startswith(f"epoch-{number}/")}
    epochs = tuple(each for each in contents.membership.epochs if each != found)
    return replace(_with(contents, epochs=epochs), targets=kept)


def with_signers(
    contents: Contents, add: Iterable[Signer], remove: Iterable[str], threshold: int | None = None
) -> Contents:
    """Change who signs. remove: names. Raises ConfigError."""
    signers = _changed(contents.signers, add, remove)
    changed = replace(contents, signers=signers, threshold=contents.threshold if threshold is None else threshold)
    changed.check()
    return changed


def with_holders(contents: Contents, add: Iterable[Signer], remove: Iterable[str]) -> Contents:
    """Change which nodes hold a timestamp key. remove: names. Raises ConfigError."""
    changed = replace(contents, holders=_changed(contents.holders, add, remove))
    changed.check()
    return changed


def describe(before: Contents | None, after: Contents) -> list[str]:
    """Return every difference as a line that begins with + (comes), - (goes) or ~ (changes)."""
    old, new = before.membership if before else None, after.membership
    lines = []
    if old is None:
        lines.append(f"+ federation {new.federation}")
        lines.append(f"+ threshold {after.threshold} of {len(after.signers)} signers")
    elif before is not None and (before.threshold, len(before.signers)) != (after.threshold, len(after.signers)):
        lines.append(
            f"~ threshold {before.threshold} of {len(before.signers)} signers "
            f"becomes {after.threshold} of {len(after.signers)}"
        )
    lines += _pairs("signer", _named(before.signers if before else ()), _named(after.signers))
    lines += _pairs("timestamp key", _named(before.holders if before else ()), _named(after.holders))
    lines += _members(old.members if old else (), new.members)
    lines += _pairs(
        "certificate root",
        {certificate_name(root): "" for root in (old.roots if old else ())},
        {certificate_name(root): "" for root in new.roots},
    )
    issuers = _issuers(old, new)
    lines += _pairs("revoked certificate", _revocations(old, issuers), _revocations(new, issuers))
    lines += _pairs("epoch", _epochs(old), _epochs(new))
    if old is None or old.key_epoch != new.key_epoch or old.epoch_check != new.epoch_check:
        lines.append(f"~ questions are asked in key epoch {new.key_epoch}, check value {new.epoch_check}")
    if old is None or old.schema_fingerprint != new.schema_fingerprint:
        lines.append(f"~ linkage schema {new.schema_fingerprint[:16] or 'not named'}")
    lines += _pairs("target", _hashes(before.targets if before else {}), _hashes(after.targets))
    return lines


def concerns(after: Contents) -> list[str]:
    """Return what signers should know beyond the change: that too few would decide, whose node would be refused."""
    membership = after.membership
    found = []
    if after.threshold * 2 <= len(after.signers):
        found.append(f"{after.threshold} of {len(after.signers)} signers are no majority, and would decide everything")
    if not membership.roots:
        return [*found, "no certificate root: every node would refuse every other"]
    for member in membership.members:
        problems = [problem for _, problem in judge_intermediates(membership, member)]
        if None not in problems:
            found.append(
                f"province {member.code} has no intermediate that counts: its node would be refused everywhere"
            )
        found += [
            f"an intermediate of province {member.code} does not count: {problem}" for problem in problems if problem
        ]
        if member.encryption_key and not is_public_key(member.encryption_key):
            found.append(f"the encryption key of province {member.code} is none: no linkage key can be sealed to it")
    if len(membership.epochs) > 1:  # the first has come by hand; to whom it is sealed late, `pulang epoch seal`
        newest = membership.epochs[-1].number
        without = [each.code for each in membership.members if sealed_name(newest, each.code) not in after.targets]
        if without:
            found.append(f"no secret of epoch {newest} is sealed here to {', '.join(without)}: they need it by hand")
    return found


def intermediate_text(pem: bytes, what: str) -> str:
    """Return the one certificate of a PEM file in its one form. Raises ConfigError or TrustError naming `what`."""
    certificate, *more = read_certificates(pem, what)
    if more:
        raise TrustError(f"{what} holds more than one certificate", hint="name each in a file of its own")
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def root_texts(pem: bytes, what: str) -> tuple[str, ...]:
    """Return each root of a PEM file in its one form. Raises ConfigError or TrustError naming `what`."""
    return tuple(root.public_bytes(Encoding.PEM).decode("ascii") for root in read_roots(pem, what))


def certificate_name(pem: str) -> str:
    """Return what people compare: a certificate's SHA-256 and its end."""
    (certificate,) = read_certificates(pem.encode(), "a certificate")
    return f"SHA-256 {certificate.fingerprint(SHA256()).hex()}, until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _with(contents: Contents, **changes: object) -> Contents:
    try:
        return replace(contents, membership=replace(contents.membership, **changes))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError(f"that cannot be: {complaints(error)}") from None


def _changed(signers: tuple[Signer, ...], add: Iterable[Signer], remove: Iterable[str]) -> tuple[Signer, ...]:
    gone = set(remove)
    if unknown := gone - {signer.name for signer in signers}:
        raise ConfigError(f"nobody is called {', '.join(sorted(unknown))}", hint="`pulang federation show` lists them")
    kept = [signer for signer in signers if signer.name not in gone]
    return tuple(sorted((*kept, *add), key=lambda signer: (signer.name, signer.key)))


def _pairs(what: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    lines = [f"- {what} {key}" for key in old if key not in new]
    lines += [f"+ {what} {key}{value and ': '}{value}" for key, value in new.items() if key not in old]
    lines += [f"~ {what} {key}: {old[key]} becomes {new[key]}" for key in new if key in old and old[key] != new[key]]
    return lines


def _members(old: tuple[Member, ...], new: tuple[Member, ...]) -> list[str]:
    before = {member.code: member for member in old}
    lines = [
        f"- member {member.code} {member.name}" for member in old if member.code not in {each.code for each in new}
    ]
    for member in new:
        was = before.get(member.code)
        if was is None:
            lines.append(f"+ member {member.code} {member.name} at {member.address}")
        elif (was.name, was.address) != (member.name, member.address):
            lines.append(
                f"~ member {member.code}: {was.name} at {was.address} becomes {member.name} at {member.address}"
            )
        lines += _pairs(
            f"intermediate certificate of {member.code}",
            {certificate_name(pem): "" for pem in (was.intermediates if was else ())},
            {certificate_name(pem): "" for pem in member.intermediates},
        )
        if member.encryption_key != (was.encryption_key if was else ""):
            lines.append(f"~ encryption key of {member.code}: {_key_name(member.encryption_key)}")
    return lines


def _named(signers: tuple[Signer, ...]) -> dict[str, str]:
    return {signer.name: signer.key for signer in signers}


def _revocations(membership: Membership | None, names: Mapping[str, str]) -> dict[str, str]:
    revoked = membership.revoked if membership else ()
    return {
        f"{each.serial}, {names.get(each.issuer_key, f'of an issuer nobody here knows, {each.issuer_key[:16]}')}": (
            each.reason
        )
        for each in revoked
    }


def _issuers(*memberships: Membership | None) -> dict[str, str]:
    """Return what is issued by every issuer that some list names, by the SHA-256 of the issuer's public key."""
    names = {}
    for membership in filter(None, memberships):
        listed = [(pem, "an intermediate under a root of the federation") for pem in membership.roots]
        for member in membership.members:
            listed += [(pem, f"a node's of province {member.code}") for pem in member.intermediates]
        for pem, name in listed:
            with suppress(ConfigError, TrustError):  # one that cannot be read is told of by `concerns`
                (certificate,) = read_certificates(pem.encode(), "a certificate of the list")
                names[key_hash(p256_key(certificate, "a certificate of the list"))] = name
    return names


def _epochs(membership: Membership | None) -> dict[str, str]:
    epochs = membership.epochs if membership else ()
    return {str(each.number): f"{each.state}, check value {each.check}" for each in epochs}


def _hashes(targets: Files) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest()[:16] for path, data in targets.items()}


def _key_name(public_hex: str) -> str:
    """Return what `pulang epoch key` shows of it: whoever can find another key of the same name gets every secret."""
    return f"SHA-256 {hashlib.sha256(bytes.fromhex(public_hex)).hexdigest()}" if public_hex else "none"
