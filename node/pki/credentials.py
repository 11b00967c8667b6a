"""A node's own key, certificate and roots: how they come into its folder, and how they are loaded from it.

Slots in <home>/pki, each one file so that key and certificate can never be torn apart: next.pem (key of a request that
waits for its certificate), current.pem (key, leaf, intermediate), previous.pem; and root.pem, the roots trusted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from node.config import load_config
from node.errors import ConfigError, MembershipEndedError, NodeError, TrustError
from node.files import PRIVATE, PUBLIC, make_private_folder, read_file, read_private, write_atomic
from node.pki.identity import Identity
from node.pki.keys import key_hash, new_key, parse_private_key, private_pem
from node.pki.profile import p256_key
from node.pki.request import make_request
from node.pki.trust import MAX_CHAIN_PEM_BYTES, VerifiedLeaf, read_certificates, read_roots, verify_chain, verify_peer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from cryptography import x509

    from node.home import NodeHome
    from node.pki.membership import Membership

CERTIFICATE_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
NEW_HINT: Final = "`pulang cert renew` makes a new one"
RENEW_AT_LEFT: Final = 1 / 3  # of its life


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the node shows to others, and by which roots it judges them."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    roots_pem: bytes = field(repr=False)
    province: str
    federation: str
    not_before: datetime
    not_after: datetime


def load_credentials(home: NodeHome, now: datetime) -> Credentials:
    """Load the current slot and judge it as a peer would.

    Raises ConfigError (missing, half-written), TrustError (readable by others, key and certificate do not belong
    together, foreign root, another province's) or CertificateExpiredError.
    """
    credentials, leaf = _load_current(home)
    leaf.check_validity(now)
    return credentials


def request_certificate(home: NodeHome, *, discard: bool = False) -> bytes:
    """Make a new key in the `next` slot and return the PEM request for it. The key never leaves the folder.

    A key that waits already is refused, or thrown away with `discard`. Raises ConfigError or StoreError.
    """
    identity = own_identity(home)
    slot = _next(home)
    if slot.exists() and not discard:
        raise ConfigError(
            f"{slot} holds a key that still waits for its certificate",
            hint="install that certificate, or begin anew with --discard",
        )
    key = new_key()
    make_private_folder(home.pki)
    write_atomic(slot, private_pem(key), mode=PRIVATE, replace=True)
    return make_request(key, identity)


def install_certificate(
    home: NodeHome, chain_pem: bytes, now: datetime, *, roots_pem: bytes | None = None, replace_roots: bool = False
) -> Credentials:
    """Check a certificate against the waiting key, the roots and this node's province; make it the current one.

    The slot before stays as previous.pem. Killed at any moment, the node still has a whole current slot, and the same
    install succeeds when run again. Raises ConfigError, TrustError or CertificateExpiredError; nothing is changed then.
    """
    roots = roots_to_trust(home, roots_pem, replace_roots=replace_roots)
    chain = read_certificates(chain_pem, "the certificate file")
    leaf = _judge(home, chain, read_roots(roots, "the root file"))
    leaf.check_validity(now)
    slot, key_pem = _slot_of_key(home, chain[0])
    # Roots first: between the two writes the old certificate must still find its root, so a rolled bundle holds both.
    write_atomic(roots_path(home), roots, mode=PUBLIC, replace=True)
    _make_current(home, key_pem, chain)
    if slot == _next(home):
        slot.unlink()
    return load_credentials(home, now)


def install_made(home: NodeHome, key: EllipticCurvePrivateKey, chain_pem: bytes, now: datetime) -> Credentials:
    """Make a key and certificate that were made on this node its current ones. Raises as install_certificate does."""
    chain = read_certificates(chain_pem, "the new certificate")
    _judge(home, chain, read_roots(read_file(roots_path(home), limit=MAX_CHAIN_PEM_BYTES), "the root file"))
    make_private_folder(home.pki)
    _make_current(home, private_pem(key), chain)
    return load_credentials(home, now)


def _make_current(home: NodeHome, key_pem: bytes, chain: Sequence[x509.Certificate]) -> None:
    """Move the current slot to previous.pem, then replace it: at any moment there is a whole one."""
    current = current_pem(home)
    content = key_pem + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    before = current.read_bytes() if current.exists() else content
    if before != content:
        write_atomic(_previous(home), before, mode=PRIVATE, replace=True)
    write_atomic(current, content, mode=PRIVATE, replace=True)


def adopt_roots(home: NodeHome, roots: Sequence[str]) -> bool:
    """Make the membership's roots the node's own, for its handshakes; whether they changed.

    A node trusts what the membership says about roots as it does about members. Raises TrustError, ConfigError.
    """
    bundle = "".join(roots).encode("ascii")
    if not roots or read_file(roots_path(home), limit=MAX_CHAIN_PEM_BYTES) == bundle:
        return False
    read_roots(bundle, "the membership")
    write_atomic(roots_path(home), bundle, mode=PUBLIC, replace=True)
    return True


class CertificateState(StrEnum):
    """What an admin must do about a node's certificate: nothing, soon something, or now."""

    VALID = "valid"
    RENEW = "renew"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    ABSENT = "absent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """A node's certificate at one moment. Times are None while there is none."""

    identity: Identity
    state: CertificateState
    is_pending: bool
    """A key waits for its certificate."""
    serial: int | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    left: timedelta | None = None
    """Negative once it has expired."""
    root_fingerprints: tuple[str, ...] = ()
    """SHA-256 of each trusted root, hexadecimal."""
    refused: NodeError | None = None
    """Why other nodes refuse it by the list of members that is here; None when they do not, or there is no list."""


def certificate_status(home: NodeHome, now: datetime, membership: Membership | None = None) -> CertificateStatus:
    """Judge the current slot without refusing an expired one; by a list of members also as others would.

    Raises ConfigError or TrustError for a broken one.
    """
    identity = own_identity(home)
    is_pending = _next(home).exists()
    if not current_pem(home).exists():
        return CertificateStatus(identity, CertificateState.ABSENT, is_pending)
    credentials, leaf = _load_current(home)
    left = leaf.not_after - now
    if now < leaf.not_before:
        state = CertificateState.NOT_YET_VALID
    elif now >= leaf.not_after:
        state = CertificateState.EXPIRED
    elif left < (leaf.not_after - leaf.not_before) * RENEW_AT_LEFT:
        state = CertificateState.RENEW
    else:
        state = CertificateState.VALID
    refused = None
    if membership is not None and state in (CertificateState.VALID, CertificateState.RENEW):
        refused = _refusal(credentials, membership, now)
        state = CertificateState.REFUSED if refused else state
    return CertificateStatus(
        identity=leaf.identity,
        state=state,
        is_pending=is_pending,
        serial=read_certificates(credentials.chain_pem, "the certificate")[0].serial_number,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        left=left,
        root_fingerprints=tuple(fingerprint(root) for root in read_roots(credentials.roots_pem, "the root file")),
        refused=refused,
    )


def _refusal(credentials: Credentials, membership: Membership, now: datetime) -> NodeError | None:
    try:
        verify_peer(leaf_pem(credentials), membership, now)
    except MembershipEndedError:
        return None  # another matter: nobody is believed by it
    except NodeError as error:
        return error
    return None


@dataclass(frozen=True, slots=True)
class CurrentLeaf:
    """What the current slot's leaf says of itself, unverified."""

    serial: str
    issuer_key: str
    """SHA-256 of the public key of the intermediate beside it, hexadecimal."""
    not_before: datetime
    not_after: datetime


def current_leaf(home: NodeHome) -> CurrentLeaf | None:
    """Read the current slot's leaf, None if there is no slot. Raises ConfigError or TrustError for a damaged one."""
    path = current_pem(home)
    if not path.exists():
        return None
    content = read_private(path, limit=MAX_CHAIN_PEM_BYTES, hint=NEW_HINT)
    _read_key(content, path)
    leaf, *above = read_certificates(_chain_in(content), f"{path} beside its key")
    return CurrentLeaf(
        serial=f"{leaf.serial_number:x}",
        issuer_key=key_hash(p256_key(above[0], "the intermediate")) if above else "",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def leaf_pem(credentials: Credentials) -> bytes:
    """Return the leaf alone, as a peer sees it."""
    leaf, _ = read_certificates(credentials.chain_pem, "the certificate")
    return leaf.public_bytes(Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, hexadecimal: `openssl x509 -fingerprint -sha256` without colons."""
    return certificate.fingerprint(SHA256()).hex()


def _load_current(home: NodeHome) -> tuple[Credentials, VerifiedLeaf]:
    path = current_pem(home)
    content = read_private(path, limit=MAX_CHAIN_PEM_BYTES, hint=NEW_HINT)
    key = _read_key(content, path)
    chain_pem = _chain_in(content)
    chain = read_certificates(chain_pem, f"{path} beside its key")
    if chain[0].public_key() != key.public_key():
        raise TrustError(f"the key and the certificate in {path} do not belong together", hint=NEW_HINT)
    roots_pem = read_file(
        roots_path(home), limit=MAX_CHAIN_PEM_BYTES, hint="`pulang cert install` with --root root.pem"
    )
    leaf = _judge(home, chain, read_roots(roots_pem, str(roots_path(home))))
    credentials = Credentials(
        key_pem=content[: -len(chain_pem)],
        chain_pem=chain_pem,
        roots_pem=roots_pem,
        province=leaf.identity.province,
        federation=leaf.identity.federation,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
    )
    return credentials, leaf


def _chain_in(slot: bytes) -> bytes:
    return slot[slot.find(CERTIFICATE_BEGIN) :] if CERTIFICATE_BEGIN in slot else b""


def _judge(home: NodeHome, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> VerifiedLeaf:
    """Verify a chain and that it speaks for the province this folder belongs to."""
    leaf = verify_chain(chain, roots)
    own = own_identity(home)
    if leaf.identity != own:
        raise TrustError(
            f"the certificate is of {leaf.identity}, and this node is {own}",
            hint=f"install it on its own node, or correct {home.config}",
        )
    return leaf


def roots_to_trust(home: NodeHome, offered: bytes | None, *, replace_roots: bool = False) -> bytes:
    """Return the roots this node trusts, or those offered to a node that has none. Raises ConfigError or TrustError."""
    path = roots_path(home)
    if not path.exists():
        if offered is None:
            raise ConfigError("this node has no root yet", hint="give the authority's root.pem with --root")
        read_roots(offered, "the root file")
        return offered
    installed = read_file(path, limit=MAX_CHAIN_PEM_BYTES)
    if offered is None or replace_roots:
        return offered or installed
    if set(read_roots(offered, "the root file")) != set(read_roots(installed, str(path))):
        raise TrustError(
            "the root file is not the root this node trusts",
            hint="ask the authority by another channel; if its root has really changed: --replace-root",
        )
    return installed


def _slot_of_key(home: NodeHome, leaf: x509.Certificate) -> tuple[Path, bytes]:
    """Return the slot whose key the certificate was made for: the waiting one, or on a repeated install the current."""
    for slot in (_next(home), current_pem(home)):
        if slot.exists():
            content = read_private(slot, limit=MAX_CHAIN_PEM_BYTES)
            if _read_key(content, slot).public_key() == leaf.public_key():
                return slot, content.partition(CERTIFICATE_BEGIN)[0]
    raise TrustError(
        "the certificate was not made for the key that waits on this node",
        hint="send the newest request to the authority and install what comes back",
    )


def _read_key(content: bytes, path: Path) -> EllipticCurvePrivateKey:
    key = parse_private_key(content)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ConfigError(f"{path} does not begin with a whole P-256 private key", hint=NEW_HINT)
    return key


def own_identity(home: NodeHome) -> Identity:
    """Return the province a node's folder belongs to. Raises ConfigError."""
    config = load_config(home)
    return Identity(config.federation, config.province)


def _next(home: NodeHome) -> Path:
    return home.pki / "next.pem"


def current_pem(home: NodeHome) -> Path:
    """Return the slot in use: key, leaf and intermediate in one file."""
    return home.pki / "current.pem"


def _previous(home: NodeHome) -> Path:
    return home.pki / "previous.pem"


def roots_path(home: NodeHome) -> Path:
    """Return where the roots lie that this node trusts."""
    return home.pki / "root.pem"
