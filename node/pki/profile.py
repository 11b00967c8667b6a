"""What the federation's certificates look like: how they are built, and the check that they are so."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from node.errors import TrustError
from node.pki.identity import Identity, identity_in
from node.pki.keys import key_hash

if TYPE_CHECKING:
    from datetime import datetime

    Validity = tuple[datetime, datetime]

BACKDATE: Final = timedelta(minutes=5)  # clocks of members may lie this far apart
MAX_LEAF_DAYS: Final = 90  # for nodes whose certificates travel by hand; a running node's have 7
MAX_INTERMEDIATES: Final = 1  # a province's intermediate issues leaves and no further authority
ALLOWED_SIGNATURES: Final = frozenset(
    {
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    }
)
LEAF_EXTENSIONS: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)
INTERMEDIATE_EXTENSIONS: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)
LEAF_USAGES: Final = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
SIGNING_ONLY: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
CERTIFICATES_ONLY: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def root_builder(
    federation: str, key: EllipticCurvePublicKey, serial: int, validity: Validity
) -> x509.CertificateBuilder:
    """Return what the authority's root is to be: a CA that may sign certificates and nothing else."""
    not_before, not_after = validity
    name = _name(federation, "Pulang federation root")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=MAX_INTERMEDIATES), critical=True)
        .add_extension(CERTIFICATES_ONLY, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )


def intermediate_builder(
    root: x509.Certificate, identity: Identity, key: EllipticCurvePublicKey, serial: int, validity: Validity
) -> x509.CertificateBuilder:
    """Return what a province's intermediate is to be, under `root`: exactly what check_intermediate_profile accepts.

    Its DNS name constraint is enforced by every TLS library. A URI constraint would name the federation's host alone,
    no province, and the verifier of `cryptography` refuses chains that have one: the URI is bound to the DNS name by
    check_leaf_profile instead.
    """
    not_before, not_after = validity
    issuer = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    common_name = f"Pulang intermediate {key_hash(key)[:16]}"  # unlike names keep two generations apart for openssl
    return (
        x509.CertificateBuilder()
        .subject_name(_name(identity.federation, common_name))
        .issuer_name(root.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(CERTIFICATES_ONLY, critical=True)
        .add_extension(_names_of(identity), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
    )


def leaf_builder(
    issuer: x509.Certificate, identity: Identity, key: EllipticCurvePublicKey, serial: int, validity: Validity
) -> x509.CertificateBuilder:
    """Return what a node's certificate is to be, under `issuer`: exactly what check_leaf_profile accepts."""
    not_before, not_after = validity
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(_name(identity.federation, identity.server_name))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(SIGNING_ONLY, critical=True)
        .add_extension(x509.ExtendedKeyUsage(sorted(LEAF_USAGES, key=lambda oid: oid.dotted_string)), critical=False)
        .add_extension(identity.subject_alternative_name, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )


def refuse_outliving(issuer: x509.Certificate, not_after: datetime, now: datetime) -> None:
    """Raise TrustError for a certificate that would be made before its issuer begins, or end after it."""
    if now < issuer.not_valid_before_utc:
        raise TrustError(
            f"this machine's clock is before the issuer's beginning, {issuer.not_valid_before_utc:%Y-%m-%d %H:%M}",
            hint="set the clock; a certificate made now would be dated wrong",
        )
    if not_after > issuer.not_valid_after_utc:
        raise TrustError(
            f"the certificate would outlive its issuer, which ends at {issuer.not_valid_after_utc:%Y-%m-%d %H:%M}",
            hint="ask for fewer --days; near its end, an issuer needs a successor: `pulang ca prepare`",
        )


def check_leaf_profile(leaf: x509.Certificate) -> Identity:
    """Check that a certificate is exactly of the form that the federation issues, whoever signed it.

    P-256, ECDSA with SHA-2, for 90 days at most, not a CA, for signing in TLS as client and as server, both key
    identifiers, one province's two names, and no further extension.
    """
    if leaf.version is not x509.Version.v3 or leaf.signature_algorithm_oid not in ALLOWED_SIGNATURES:
        raise TrustError("the certificate is not X.509 v3 signed with ECDSA and SHA-2")
    if leaf.serial_number < 1:
        raise TrustError("the certificate's serial number is not positive")
    p256_key(leaf, "the certificate")
    try:
        extensions = leaf.extensions
        if {extension.oid for extension in extensions} != LEAF_EXTENSIONS:
            raise TrustError("the certificate has other extensions than the federation's profile")
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise TrustError("the certificate's extensions cannot be read") from None
    if not constraints.critical or constraints.value.ca:
        raise TrustError("the certificate is an authority's, not a node's")
    if not usage.critical or usage.value != SIGNING_ONLY:
        raise TrustError("the certificate's key may not do exactly one thing: sign")
    if frozenset(purposes.value) != LEAF_USAGES:
        raise TrustError("the certificate is not for TLS as client and as server")
    # Who had an intermediate's key for a minute could else make itself a leaf for years, in no register.
    if leaf.not_valid_after_utc - leaf.not_valid_before_utc > timedelta(days=MAX_LEAF_DAYS) + BACKDATE:
        raise TrustError(f"the certificate is made for longer than {MAX_LEAF_DAYS} days")
    return identity_in(extensions)


def check_intermediate_profile(intermediate: x509.Certificate, identity: Identity) -> None:
    """Check that a certificate is exactly what the federation issues as the intermediate of `identity`.

    P-256, ECDSA with SHA-2, a CA that may sign leaves and no further CA, for this province's server name alone, and
    no further extension. Raises TrustError.
    """
    if intermediate.version is not x509.Version.v3 or intermediate.signature_algorithm_oid not in ALLOWED_SIGNATURES:
        raise TrustError("the intermediate is not X.509 v3 signed with ECDSA and SHA-2")
    if intermediate.serial_number < 1:
        raise TrustError("the intermediate's serial number is not positive")
    p256_key(intermediate, "the intermediate")
    try:
        extensions = intermediate.extensions
        if {extension.oid for extension in extensions} != INTERMEDIATE_EXTENSIONS:
            raise TrustError("the intermediate has other extensions than the federation's profile")
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        names = extensions.get_extension_for_class(x509.NameConstraints)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise TrustError("the intermediate's extensions cannot be read") from None
    if not constraints.critical or not constraints.value.ca or constraints.value.path_length != 0:
        raise TrustError("the intermediate is not an authority that issues leaves alone")
    if not usage.critical or usage.value != CERTIFICATES_ONLY:
        raise TrustError("the intermediate's key may not do exactly one thing: sign certificates")
    if not names.critical or names.value != _names_of(identity):
        raise TrustError(
            f"the intermediate is not constrained to the names of {identity}",
            hint="it may be another province's: compare the file with the request",
        )


def _names_of(identity: Identity) -> x509.NameConstraints:
    return x509.NameConstraints(permitted_subtrees=[x509.DNSName(identity.server_name)], excluded_subtrees=None)


def p256_key(subject: x509.Certificate | x509.CertificateSigningRequest, whose: str) -> EllipticCurvePublicKey:
    """Return the public key of a certificate or request. Raises TrustError unless it is P-256, the one kind here."""
    try:
        key = subject.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)):
        raise TrustError(
            f"the key of {whose} is not of the kind P-256", hint="make key and request with `pulang cert request`"
        )
    return key


def organization(certificate: x509.Certificate) -> str:
    """Return the federation that a certificate of ours is made for: the organization in its subject."""
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    return str(name.value)


def _name(federation: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, federation),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )
