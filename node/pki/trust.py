"""Whether a certificate is to be trusted. No files, no clock: bytes and `now` in, a member or an error out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from node.errors import CertificateExpiredError, CertificateRevokedError, ConfigError, NotAMemberError, TrustError
from node.pki.identity import Identity
from node.pki.keys import key_hash
from node.pki.profile import check_intermediate_profile, check_leaf_profile, p256_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from node.pki.membership import Member, Membership, Revocation

MAX_CHAIN_PEM_BYTES: Final = 64 * 1024
CACHED_PEERS: Final = 256  # ten members, a few certificates each; only verified ones enter: no stranger can flush it


@dataclass(frozen=True, slots=True)
class VerifiedLeaf:
    """A leaf whose chain, profile and names are sound. Whether it counts *now* is still to be asked."""

    identity: Identity
    not_before: datetime
    not_after: datetime
    """The chain's common validity: the latest start and the earliest end of all its certificates."""
    chain: tuple[tuple[str, str], ...]
    """Leaf, then intermediate: SHA-256 of the issuer's public key, and the serial number, both hexadecimal."""

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
                hint="its node must get a new one: `pulang cert renew`; if that is refused, `pulang ca status`",
            )

    def check_revoked(self, revoked: Sequence[Revocation]) -> None:
        """Raise CertificateRevokedError if the leaf or its intermediate was taken back."""
        for revocation in revoked:
            if (revocation.issuer_key, revocation.serial) in self.chain:
                raise CertificateRevokedError(
                    f"the certificate of {self.identity} was revoked at {revocation.revoked_at:%Y-%m-%d %H:%M} UTC: "
                    f"{revocation.reason.replace('_', ' ')}",
                    hint="its node needs a new one: `pulang cert renew`, or a new intermediate: `pulang ca prepare`",
                )


def verify_peer(leaf_pem: bytes, membership: Membership, now: datetime, *, even_if_ended: bool = False) -> Member:
    """Return the member a peer's certificate speaks for. Called for every RPC: gRPC checks only once a connection.

    The leaf counts under an intermediate that the membership lists for its province, which counts under a root of the
    membership. Signatures, profile and names never change and are remembered; time, membership and revocation are
    asked every time.
    Raises TrustError (foreign, tampered, wrong form or federation), NotAMemberError, CertificateExpiredError,
    CertificateRevokedError or, for what is no certificate, ConfigError; MembershipEndedError for a certificate that
    would count if the membership did: asked last, so that nobody else is told; not with `even_if_ended`.
    """
    identity = _identity(leaf_pem)
    if identity.federation != membership.federation:
        raise TrustError(f"the certificate is of {identity}, and this federation is {membership.federation}")
    member = membership.by_code(identity.province)
    if member is None:
        raise NotAMemberError(
            f"{identity} is not a member",
            hint="the signers admit it: `pulang federation propose admit`",
        )
    leaf = _verified(leaf_pem, member.intermediates, membership.roots)
    leaf.check_validity(now)
    leaf.check_revoked(membership.revoked)
    if not even_if_ended:
        membership.check_validity(now)
    return member


def shown_certificate(leaf_pem: bytes, membership: Membership) -> tuple[str, datetime]:
    """Return (serial, end of the chain) of a certificate that `verify_peer` has accepted. serial: hexadecimal."""
    member = membership.by_code(_identity(leaf_pem).province)
    leaf = _verified(leaf_pem, () if member is None else member.intermediates, membership.roots)
    return leaf.chain[0][1], leaf.not_after


@lru_cache(maxsize=CACHED_PEERS)
def _identity(leaf_pem: bytes) -> Identity:
    (leaf,) = _single(read_certificates(leaf_pem, "the peer's certificate"))
    return check_leaf_profile(leaf)


@lru_cache(maxsize=CACHED_PEERS)
def _verified(leaf_pem: bytes, intermediates: tuple[str, ...], roots: tuple[str, ...]) -> VerifiedLeaf:
    (leaf,) = read_certificates(leaf_pem, "the peer's certificate")
    for pem in intermediates:
        (intermediate,) = _single(read_certificates(pem.encode(), "an intermediate of the membership"))
        if is_signed_by(leaf, intermediate):
            return verify_chain((leaf, intermediate), _roots_of(roots))
    raise TrustError(
        f"the certificate of {check_leaf_profile(leaf)} was not issued by an intermediate that the membership lists",
        hint="a new intermediate counts once it is in the published membership; until then, activate the one before",
    )


def verify_chain(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> VerifiedLeaf:
    """Check a chain of leaf and intermediate up to one of `roots`, both profiles and the names. Raises TrustError."""
    leaf, *above = chain
    identity = check_leaf_profile(leaf)
    if len(above) != 1:
        raise TrustError(
            f"the certificate of {identity} does not come with exactly one intermediate",
            hint="the file holds the leaf and then its intermediate, as `pulang cert issue` writes it",
        )
    check_intermediate_profile(above[0], identity)
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        # At its very end the leaf must still stand under its issuers: a leaf that outlives one is refused here. That
        # it counts at the present moment is asked of the result, every time, with a name of its own.
        .time(leaf.not_valid_after_utc)
        .build_client_verifier()
    )
    try:
        path = verifier.verify(leaf, above).chain
    except (VerificationError, ValueError):  # ValueError: a part that is only parsed here, such as the subject
        # The library's reason may quote the foreign certificate; ours never does.
        raise TrustError(
            f"the certificate of {identity} was not issued under this federation's root",
            hint="compare the root's fingerprint with the authority's: `pulang cert status` shows ours",
        ) from None
    return VerifiedLeaf(
        identity=identity,
        not_before=max(certificate.not_valid_before_utc for certificate in path),
        not_after=min(certificate.not_valid_after_utc for certificate in path),
        chain=tuple(
            (key_hash(p256_key(issuer, "the issuer")), f"{certificate.serial_number:x}")
            for certificate, issuer in itertools.pairwise(path)
        ),
    )


def verify_intermediate(
    intermediate: x509.Certificate, identity: Identity, roots: Sequence[x509.Certificate]
) -> x509.Certificate:
    """Check a province's intermediate under one of `roots`, and that it does not outlive it; return that root."""
    check_intermediate_profile(intermediate, identity)
    root = next((root for root in roots if is_signed_by(intermediate, root)), None)
    if root is None:
        raise TrustError(
            f"the intermediate of {identity} was not issued by this federation's root",
            hint="compare the root's fingerprint with the authority's, by telephone",
        )
    if (
        not root.not_valid_before_utc
        <= intermediate.not_valid_before_utc
        < intermediate.not_valid_after_utc
        <= (root.not_valid_after_utc)
    ):
        raise TrustError(f"the intermediate of {identity} outlives the root it stands under")
    return root


def server_anchors(membership: Membership, province: str) -> bytes:
    """Return what a member's server must stand under: its listed intermediates that are not revoked, as one PEM file.

    A client cannot look at its server's certificate per call; it can refuse, by its anchors, every other issuer.
    Raises NotAMemberError, or TrustError when no intermediate counts.
    """
    member = membership.by_code(province)
    if member is None:
        raise NotAMemberError(f"province {province} of {membership.federation} is not a member")
    judged = judge_intermediates(membership, member)
    anchors = [pem for pem, problem in judged if problem is None]
    if not anchors:
        why = f": {judged[0][1]}" if judged else ""
        raise TrustError(
            f"the membership lists no intermediate of province {province} that counts{why}",
            hint="its authority issues one, and the signers publish it: `pulang federation propose change`",
        )
    return "".join(anchors).encode()


def judge_intermediates(membership: Membership, member: Member) -> list[tuple[str, TrustError | None]]:
    """Return each intermediate listed for a member, and why it does not count, None if it does. Dates are not asked."""
    identity = Identity(membership.federation, member.code)
    roots = _roots_of(membership.roots)
    taken_back = {(revocation.issuer_key, revocation.serial) for revocation in membership.revoked}

    def judge(pem: str) -> TrustError | None:
        try:
            (intermediate,) = _single(read_certificates(pem.encode(), "an intermediate of the membership"))
            root = verify_intermediate(intermediate, identity, roots)
        except ConfigError as error:
            return TrustError(str(error))
        except TrustError as error:
            return error
        if (key_hash(p256_key(root, "the root")), f"{intermediate.serial_number:x}") in taken_back:
            return CertificateRevokedError(f"the intermediate of {identity} was revoked")
        return None

    return [(pem, judge(pem)) for pem in member.intermediates]


def _roots_of(roots: tuple[str, ...]) -> tuple[x509.Certificate, ...]:
    if not roots:
        raise TrustError(
            "the membership lists no root: no certificate counts",
            hint="the signers put the authority's root.pem in: `pulang federation propose roots --add`",
        )
    return read_roots("".join(roots).encode(), "the membership")


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer`'s key signed a certificate in its name; no word about either being any good."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _single(certificates: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate]:
    first, *more = certificates
    if more:
        raise TrustError("more than one certificate where one belongs", hint="the intermediate is in the membership")
    return (first,)


def read_certificates(pem: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """Parse one or more PEM certificates, and nothing else. Raises ConfigError naming `what`."""
    markers = pem.count(b"-----BEGIN ")
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
        for each in certificates:
            each.public_key()  # read only when asked for: a broken one must not wait for whoever asks first
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
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
