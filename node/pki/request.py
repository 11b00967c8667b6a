"""Certificate requests: how they are made, and what one must be to be granted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from node.errors import ConfigError, TrustError
from node.pki.identity import Identity, identity_in
from node.pki.keys import key_hash
from node.pki.profile import p256_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

MAX_REQUEST_BYTES: Final = 16 * 1024


def make_request(key: EllipticCurvePrivateKey, identity: Identity) -> bytes:
    """Return a PEM request for a certificate of this key and identity."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))  # the names that count are the alternative ones; the issuer writes the subject
        .add_extension(identity.subject_alternative_name, critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )


def requested_key(request_pem: bytes, identity: Identity) -> EllipticCurvePublicKey:
    """Return the key of a request that asks for exactly `identity`, and nothing else.

    Raises ConfigError (not a request) or TrustError: another province, weak key, wrong signature, more than names.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem)
        extensions = request.extensions
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ConfigError(
            "the request file is not a whole PEM certificate request",
            hint="copy it again from the node that made it",
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
        raise TrustError(f"the request is refused: {error}", hint="make it with `pulang ca prepare`") from None
    if asked != identity:
        raise TrustError(
            f"the request is of {asked}, and the certificate would be of {identity}",
            hint="name the province whose request this is, or ask for the right file",
        )
    if len(extensions) != 1:
        raise TrustError("the request asks for more than its names", hint="make it with `pulang ca prepare`")
    return key


def request_name(request_pem: bytes, identity: Identity) -> str:
    """Return what people compare by telephone: SHA-256 of the request's public key. Raises as `requested_key` does.

    A request that was exchanged on its way is as good as the true one in every other respect.
    """
    return key_hash(requested_key(request_pem, identity))
