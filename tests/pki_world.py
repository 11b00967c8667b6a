"""A small federation for tests of trust: a real authority, real nodes, and certificates it would never issue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from node.config import make_config, write_config
from node.home import NodeHome
from node.pki.credentials import install_certificate, request_certificate
from node.pki.identity import Identity
from node.pki.intermediate import ProvinceAuthority
from node.pki.membership import Member, Membership
from node.pki.profile import CERTIFICATES_ONLY, SIGNING_ONLY
from node.pki.renewal import renew
from node.pki.stages import IssuerFolder, Stage, find
from tests.listing import ListedAuthority

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOW = datetime(2026, 6, 1, 8, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
BOTH_USES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class World:
    """An authority and the folder beside which its nodes live."""

    folder: Path
    authority: ListedAuthority
    began: datetime = NOW - timedelta(days=30)
    """When its intermediates were issued."""

    def home(self, province: str, federation: str = "fkd-mpu") -> NodeHome:
        """A new node's folder, without any certificate."""
        home = NodeHome(self.folder / f"node-{province}-{federation}")
        write_config(home, make_config(federation=federation, province=province))
        return home

    def ca(self, province: str, *, began: datetime | None = None) -> ProvinceAuthority:
        """The province's intermediate, kept apart from its node; made when first asked for."""
        home = NodeHome(self.folder / f"ca-{province}")
        if not home.config.exists():
            write_config(home, make_config(federation="fkd-mpu", province=province))
            self.prepared(home, began or self.began).activate(began or self.began)
        return ProvinceAuthority(home)

    def prepared(self, home: NodeHome, now: datetime = NOW, days: int = 365) -> ProvinceAuthority:
        """A folder's next intermediate, issued and installed, not yet active."""
        own = ProvinceAuthority(home)
        pem = self.authority.issue_intermediate(own.prepare(now), own.identity.province, now, days=days)
        own.install(pem, now, roots_pem=None if (home.pki / "root.pem").exists() else self.authority.root_pem)
        return own

    def renewing(self, province: str, now: datetime = NOW) -> NodeHome:
        """A new node's folder with an intermediate of its own and its first leaf."""
        home = self.home(province)
        self.prepared(home, now).activate(now)
        renew(home, now)
        return home

    def issue(self, request: bytes, province: str, now: datetime = NOW, days: int = 30) -> bytes:
        """Leaf and intermediate for a request."""
        return self.ca(province).issue(request, now, days=days)

    def certified(self, province: str, now: datetime = NOW, days: int = 30) -> NodeHome:
        """A new node's folder with a certificate in it that was made elsewhere."""
        home = self.home(province)
        chain = self.issue(request_certificate(home), province, now, days)
        install_certificate(home, chain, now, roots_pem=self.authority.root_pem)
        return home

    def chain(self, province: str, now: datetime = NOW, days: int = 30) -> bytes:
        """Leaf and intermediate of a province, without a key."""
        return self.issue(request_for(Identity("fkd-mpu", province)), province, now, days)

    def leaf(self, province: str, now: datetime = NOW, days: int = 30) -> bytes:
        """The leaf alone, as a peer sees it."""
        return pem(x509.load_pem_x509_certificates(self.chain(province, now, days))[0])

    def members(self, *codes: str, now: datetime = NOW, days: int = 30) -> Membership:
        """Admit provinces, each with its intermediate, and publish the list."""
        for code in codes:
            self.ca(code)
            self.authority.admit(Member(code, f"Province {code}", f"127.0.0.1:70{code}"))
        return self.authority.publish(now, days=days)

    @property
    def root_key(self) -> EllipticCurvePrivateKey:
        """The authority's own key: for certificates it would never sign."""
        folder = IssuerFolder(self.authority.folder / "roots")
        active = find(folder.read(), Stage.ACTIVE)
        assert active is not None
        return folder.key(active)

    def intermediate(self, province: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
        """A province's real intermediate with its key: for leaves it would never sign."""
        _, certificate, key = IssuerFolder(self.ca(province).home.ca).signer()
        return certificate, key


@pytest.fixture(name="world")
def found_world(tmp_path: Path) -> World:
    """A federation founded two months ago."""
    return World(tmp_path, ListedAuthority.found(tmp_path / "authority", "fkd-mpu", NOW - 60 * DAY))


def request_for(
    identity: Identity,
    *,
    key: Any = None,
    names: Sequence[x509.GeneralName] | None = None,
    extra: Sequence[x509.ExtensionType] = (),
) -> bytes:
    """A PEM request as any tool could make it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    san = identity.subject_alternative_name if names is None else x509.SubjectAlternativeName(names)
    if names is None or names:
        builder = builder.add_extension(san, critical=False)
    for extension in extra:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key or generate_private_key(SECP256R1()), SHA256()).public_bytes(Encoding.PEM)


def make_certificate(
    issuer: x509.Certificate | x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    *,
    key: Any = None,
    subject: str = "test",
    names: Sequence[x509.GeneralName] | None = None,
    not_before: datetime = NOW - DAY,
    not_after: datetime = NOW + 30 * DAY,
    uses: Sequence[x509.ObjectIdentifier] = BOTH_USES,
    usage: x509.KeyUsage = SIGNING_ONLY,
    is_ca: bool = False,
    claims_ca: bool = False,
    path_length: int | None = 0,
    constraint: str | None = "p35.fkd-mpu",
    extra: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    """A certificate of province 35 that is sound but for what is asked for."""
    public = (key or generate_private_key(SECP256R1())).public_key()
    issuer_public = issuer_key.public_key()
    identity = Identity("fkd-mpu", "35")
    san = identity.subject_alternative_name if names is None else x509.SubjectAlternativeName(names)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer.subject if isinstance(issuer, x509.Certificate) else issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(
            x509.BasicConstraints(ca=is_ca or claims_ca, path_length=path_length if is_ca else None), critical=True
        )
        .add_extension(CERTIFICATES_ONLY if is_ca else usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )
    if not is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if names is None or names:
            builder = builder.add_extension(san, critical=False)
    elif constraint is not None:
        builder = builder.add_extension(x509.NameConstraints([x509.DNSName(constraint)], None), critical=True)
    for extension in extra:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    """The certificates as one PEM file."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
