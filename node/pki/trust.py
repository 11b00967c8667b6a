"""Whether a certificate is to be trusted. No files, no clock: bytes and `now` in, a member or an error out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from node.errors import CertificateExpiredError, ConfigError, NotAMemberError, TrustError
from node.pki.profile import check_leaf_profile, p256_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from node.pki.identity import Identity
    from node.pki.membership import Member, Membership

MAX_CHAIN_PEM_BYTES: Final = 64 * 1024
CACHED_PEERS: Final = 256  # ten members, a few certificates each; only verified ones enter: no stranger can flush it


@dataclass(frozen=True, slots=True)
class VerifiedLeaf:
    """A leaf whose chain, profile and names are sound. Whether it counts *now* is still to be asked."""

    identity: Identity
    not_before: datetime
    not_after: datetime
    """The chain's common validity: the latest start and the earliest end of all its certificates."""

    def check_validity(self, now: datetime) -> None:
        """Raise CertificateExpiredError outside the chain's common validity."""
        if now < self.not_before:
            raise CertificateExpiredError(
                f"the certificate of {self.identity} is not valid before {self.not_before:%Y-%m-%d %H:%M:%S} UTC",
                hint="compare this machine's clock with the time of day; a certificate is never issued for the future",
            )
        if now >= self.not_after:
            raise CertificateExpiredError(
                f"the certificate of {self.identity} expired at {self.not_after:%Y-%m-%d %H:%M:%S} UTC",
                hint="its node must get a new one: `pulang cert request`, then `pulang cert install`",
            )


def verify_peer(leaf_pem: bytes, roots_pem: bytes, membership: Membership, now: datetime) -> Member:
    """Return the member a peer's certificate speaks for. Called for every RPC: gRPC checks only once a connection.

    The signatures, profile and names of a certificate never change and are remembered; time and membership are
    asked every time.
    Raises TrustError (foreign, tampered, wrong form or federation), CertificateExpiredError or NotAMemberError.
    """
    leaf = _verified(leaf_pem, roots_pem)
    leaf.check_validity(now)
    membership.check_validity(now)
    if leaf.identity.federation != membership.federation:
        raise TrustError(f"the certificate is of {leaf.identity}, and this federation is {membership.federation}")
    member = membership.by_code(leaf.identity.province)
    if member is None:
        raise NotAMemberError(
            f"{leaf.identity} has a sound certificate and is not a member",
            hint="the authority admits it with `pulang federation admit` and publishes the membership",
        )
    return member


@lru_cache(maxsize=CACHED_PEERS)
def _verified(leaf_pem: bytes, roots_pem: bytes) -> VerifiedLeaf:
    return verify_chain(read_certificates(leaf_pem, "the peer's certificate"), read_roots(roots_pem, "the root file"))


def verify_chain(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> VerifiedLeaf:
    """Check a chain, leaf first, up to one of `roots`, and the leaf's profile and names. Raises TrustError."""
    leaf, *intermediates = chain
    identity = check_leaf_profile(leaf)
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        # At its very end the leaf must still stand under its issuers: a leaf that outlives one is refused here. That
        # it counts at the present moment is asked of the result, every time, with a name of its own.
        .time(leaf.not_valid_after_utc)
        .build_client_verifier()
    )
    try:
        path = verifier.verify(leaf, intermediates).chain
    except (VerificationError, ValueError):  # ValueError: a part that is only parsed here, such as the subject
        # The library's reason may quote the foreign certificate; ours never does.
        raise TrustError(
            f"the certificate of {identity} was not issued by this federation's root",
            hint="compare the root's fingerprint with the authority's: `pulang cert status` shows ours",
        ) from None
    return VerifiedLeaf(
        identity=identity,
        not_before=max(certificate.not_valid_before_utc for certificate in path),
        not_after=min(certificate.not_valid_after_utc for certificate in path),
    )


def read_certificates(pem: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """Parse one or more PEM certificates, and nothing else. Raises ConfigError naming `what`."""
    markers = pem.count(b"-----BEGIN ")
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion):
        certificates = ()
    # A half-written second certificate would be skipped in silence: as many must be read as begin.
    if not certificates or len(certificates) != markers or len(pem) > MAX_CHAIN_PEM_BYTES:
        raise ConfigError(
            f"{what} is not a whole PEM certificate", hint="copy the file again; it may be half-written or another file"
        )
    return certificates


def read_roots(pem: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """Parse PEM roots and check that each is one: self-signed, P-256, allowed to sign certificates."""
    roots = read_certificates(pem, what)
    for root in roots:
        p256_key(root, what)
        try:
            root.verify_directly_issued_by(root)
            constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
            usage = root.extensions.get_extension_for_class(x509.KeyUsage)
            is_root = constraints.critical and constraints.value.ca and usage.value.key_cert_sign
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension):
            is_root = False
        if not is_root:
            raise TrustError(f"{what} holds a certificate that is not a root", hint="use the authority's root.pem")
    return roots
