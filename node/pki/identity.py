"""Who a certificate speaks for: one province of one federation, by exactly two names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from node.config import FEDERATION_PATTERN, PROVINCE_PATTERN
from node.errors import TrustError

SCHEME: Final = "spiffe://"
FEDERATION: Final = re.compile(FEDERATION_PATTERN)
PROVINCE: Final = re.compile(PROVINCE_PATTERN)


@dataclass(frozen=True, slots=True)
class Identity:
    """A province in a federation."""

    federation: str
    province: str

    @property
    def uri(self) -> str:
        """The name that is trusted: SPIFFE ID, read from the URI SAN."""
        return f"{SCHEME}{self.federation}/province/{self.province}"

    @property
    def server_name(self) -> str:
        """The name TLS clients check, from the DNS SAN; it need not resolve."""
        return f"p{self.province}.{self.federation}"

    @property
    def subject_alternative_name(self) -> x509.SubjectAlternativeName:
        """Both names, as they stand in requests and certificates."""
        return x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(self.uri),
                x509.DNSName(self.server_name),
            ]
        )

    def __str__(self) -> str:
        return f"province {self.province} of {self.federation}"


def identity_in(extensions: x509.Extensions) -> Identity:
    """Read the identity out of the subject alternative name of a request or a certificate.

    Exactly one URI of the exact form and the DNS name that belongs to it; one name more or less is refused, so that
    no two readers of a certificate can see two different provinces. Foreign text never enters the error's text.
    """
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise TrustError("it names no province: no subject alternative name") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise TrustError(f"it must name one province by URI, and has {len(uris)} URI names")
    identity = _parse_uri(uris[0])
    if names.get_values_for_type(x509.DNSName) != [identity.server_name] or len(list(names)) != 2:
        raise TrustError(f"besides its URI it must carry the name {identity.server_name} and no other")
    return identity


def _parse_uri(uri: str) -> Identity:
    federation, found, province = uri.removeprefix(SCHEME).partition("/province/")
    # fullmatch: `$` alone would let a trailing newline pass
    if not (uri.startswith(SCHEME) and found and FEDERATION.fullmatch(federation) and PROVINCE.fullmatch(province)):
        raise TrustError("its URI name is not spiffe://<federation>/province/<code>")
    return Identity(federation, province)
