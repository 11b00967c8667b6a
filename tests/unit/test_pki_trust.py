"""Who is believed to be which province, and every way of pretending."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from node.errors import CertificateExpiredError, ConfigError, NotAMemberError, TrustError
from node.pki.authority import Authority
from node.pki.profile import CERTIFICATES_ONLY
from node.pki.trust import verify_peer
from tests.pki_world import DAY, NOW, World, found_world, make_certificate, pem  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path

    from node.pki.membership import Member

URI = x509.UniformResourceIdentifier
DNS = x509.DNSName
OWN_URI = URI("spiffe://fkd-mpu/province/35")
OWN_DNS = DNS("p35.fkd-mpu")


def judge(world: World, leaf_pem: bytes, now: Any = NOW) -> Member:
    return verify_peer(leaf_pem, world.authority.root_pem, world.members("35"), now)


def forged(world: World, **oddities: Any) -> bytes:
    """A certificate signed by the real root's key, and not of the profile: what a careless authority might issue."""
    return pem(make_certificate(world.authority.root, world.root_key, **oddities))


def test_a_members_certificate_is_believed_to_be_its_province(world: World) -> None:
    member = judge(world, world.leaf("35"))
    assert (member.code, member.address) == ("35", "127.0.0.1:7035")


def test_the_forger_of_these_tests_makes_a_good_certificate_when_nothing_is_odd(world: World) -> None:
    assert judge(world, forged(world)).code == "35"


# --- whose signature -------------------------------------------------------------------------------------------------


def test_a_root_of_the_same_name_and_another_key_is_foreign(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other", Authority.found(tmp_path / "other" / "authority", "fkd-mpu", NOW - DAY))
    with pytest.raises(TrustError, match="not issued by this federation's root"):
        judge(world, other.leaf("35"))


def test_a_self_signed_certificate_is_foreign(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, pem(make_certificate(name, key, key=key)))


def test_one_flipped_bit_of_the_signature_is_noticed(world: World) -> None:
    der = bytearray(x509.load_pem_x509_certificate(world.leaf("35")).public_bytes(Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, pem(x509.load_der_x509_certificate(bytes(der))))


def test_another_province_written_into_a_signed_certificate_is_noticed(world: World) -> None:
    der = x509.load_pem_x509_certificate(world.leaf("33")).public_bytes(Encoding.DER)
    edited = der.replace(b"province/33", b"province/35").replace(b"p33.fkd-mpu", b"p35.fkd-mpu")
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, pem(x509.load_der_x509_certificate(edited)))


def test_a_leaf_cannot_issue_another_leaf(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = make_certificate(world.authority.root, world.root_key, key=key)
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, pem(make_certificate(leaf, key), leaf))


def test_a_chain_over_an_intermediate_is_believed_and_without_it_is_not(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    between = make_certificate(world.authority.root, world.root_key, key=key, subject="province 35 CA", is_ca=True)
    leaf = make_certificate(between, key)
    assert judge(world, pem(leaf, between)).code == "35"
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, pem(leaf))


def test_a_chain_with_the_authority_before_the_leaf_is_refused(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    between = make_certificate(world.authority.root, world.root_key, key=key, subject="province 35 CA", is_ca=True)
    with pytest.raises(TrustError, match="extensions"):
        judge(world, pem(between, make_certificate(between, key)))


def test_two_intermediates_are_one_too_many(world: World) -> None:
    outer_key, inner_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    outer = make_certificate(world.authority.root, world.root_key, key=outer_key, subject="outer", is_ca=True)
    inner = make_certificate(outer, outer_key, key=inner_key, subject="inner", is_ca=True)
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, pem(make_certificate(inner, inner_key), inner, outer))


# --- when ------------------------------------------------------------------------------------------------------------


def test_a_certificate_counts_to_its_last_second_and_no_longer(world: World) -> None:
    leaf, end = world.leaf("35", days=30), NOW + 30 * DAY
    membership = world.members("35", now=NOW, days=90)
    assert verify_peer(leaf, world.authority.root_pem, membership, end - timedelta(seconds=1)).code == "35"
    with pytest.raises(CertificateExpiredError, match="province 35 of fkd-mpu expired at 2026-07-01 08:00:00 UTC"):
        verify_peer(leaf, world.authority.root_pem, membership, end)


def test_a_certificate_counts_five_minutes_back_and_no_further(world: World) -> None:
    leaf = world.leaf("35")
    assert judge(world, leaf, NOW - timedelta(minutes=5)).code == "35"
    with pytest.raises(CertificateExpiredError, match="not valid before"):
        judge(world, leaf, NOW - timedelta(minutes=5, seconds=1))


def test_a_certificate_that_was_good_a_moment_ago_is_asked_for_its_date_again(world: World) -> None:
    leaf, membership = world.leaf("35", days=1), world.members("35")
    assert verify_peer(leaf, world.authority.root_pem, membership, NOW).code == "35"  # now it is remembered
    with pytest.raises(CertificateExpiredError):
        verify_peer(leaf, world.authority.root_pem, membership, NOW + DAY)


def test_the_end_of_the_intermediate_is_the_end_of_the_leaf(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    between = make_certificate(
        world.authority.root, world.root_key, key=key, subject="CA", is_ca=True, not_before=NOW + DAY
    )
    chain = pem(make_certificate(between, key), between)
    with pytest.raises(CertificateExpiredError, match="not valid before 2026-06-02"):
        judge(world, chain)
    assert judge(world, chain, NOW + DAY).code == "35"


def test_a_leaf_that_outlives_its_issuer_is_refused_today(world: World) -> None:
    beyond = world.authority.root.not_valid_after_utc + timedelta(seconds=1)
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, forged(world, not_after=beyond))


# --- who -------------------------------------------------------------------------------------------------------------


def test_a_sound_certificate_of_a_province_that_is_no_member_is_refused(world: World) -> None:
    with pytest.raises(NotAMemberError, match="province 33 of fkd-mpu"):
        judge(world, world.leaf("33"))


def test_a_member_that_was_removed_is_refused_at_the_next_question(world: World) -> None:
    leaf, both = world.leaf("33"), world.members("33", "35")
    assert verify_peer(leaf, world.authority.root_pem, both, NOW).code == "33"
    world.authority.remove("33")
    with pytest.raises(NotAMemberError):
        verify_peer(leaf, world.authority.root_pem, world.members(), NOW)


def test_an_expired_membership_opens_to_nobody(world: World) -> None:
    leaf, membership = world.leaf("35"), world.members("35", days=1)
    with pytest.raises(TrustError, match="membership of fkd-mpu, version 1, expired"):
        verify_peer(leaf, world.authority.root_pem, membership, NOW + DAY)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "other extensions"),
        ([OWN_DNS], "0 URI names"),
        ([OWN_URI], "and no other"),
        ([OWN_URI, URI("spiffe://fkd-mpu/province/33"), OWN_DNS], "2 URI names"),
        ([OWN_URI, OWN_DNS, DNS("p33.fkd-mpu")], "and no other"),
        ([OWN_URI, DNS("p33.fkd-mpu")], "and no other"),
        ([OWN_URI, OWN_DNS, x509.RFC822Name("a@b.id")], "and no other"),
        ([URI("spiffe://other/province/35"), DNS("p35.other")], "this federation is fkd-mpu"),
        ([URI("spiffe://fkd-mpu/province/35/"), OWN_DNS], "spiffe://<federation>"),
        ([URI("spiffe://fkd-mpu/province/35\n"), OWN_DNS], "spiffe://<federation>"),
        ([URI("spiffe://fkd-mpu/province/035"), OWN_DNS], "spiffe://<federation>"),
        ([URI("SPIFFE://fkd-mpu/province/35"), OWN_DNS], "spiffe://<federation>"),
        ([URI("spiffe://fkd-mpu/province/33/province/35"), OWN_DNS], "spiffe://<federation>"),
        ([URI("https://fkd-mpu/province/35"), OWN_DNS], "spiffe://<federation>"),
    ],
)
def test_a_name_too_many_too_few_or_misspelt_is_refused(world: World, names: list[x509.GeneralName], why: str) -> None:
    with pytest.raises(TrustError, match=why):
        judge(world, forged(world, names=names))


# --- for what --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("oddities", "why"),
    [
        ({"uses": [ExtendedKeyUsageOID.CLIENT_AUTH]}, "as client and as server"),
        ({"uses": [ExtendedKeyUsageOID.SERVER_AUTH]}, "as client and as server"),
        ({"uses": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, "as client and as server"),
        ({"is_ca": True}, "other extensions"),
        ({"claims_ca": True}, "an authority's, not a node's"),
        ({"usage": CERTIFICATES_ONLY}, "exactly one thing: sign"),
        ({"extra": [x509.OCSPNoCheck()]}, "other extensions"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "not of the kind P-256"),
        ({"key": ec.generate_private_key(ec.SECP256K1())}, "not of the kind P-256"),
        ({"key": ed25519.Ed25519PrivateKey.generate()}, "not of the kind P-256"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "not of the kind P-256"),
    ],
)
def test_a_certificate_out_of_profile_is_refused_even_if_the_root_signed_it(
    world: World, oddities: dict[str, Any], why: str
) -> None:
    with pytest.raises(TrustError, match=why):
        judge(world, forged(world, **oddities))


# --- not even a certificate ------------------------------------------------------------------------------------------


def test_half_a_certificate_is_one_clear_error(world: World) -> None:
    leaf = world.leaf("35")
    for size in (0, 1, 30, len(leaf) // 2, len(leaf) - 3):
        with pytest.raises(ConfigError, match="not a whole PEM certificate"):
            judge(world, leaf[:size])


def test_a_certificate_of_a_version_that_does_not_exist_is_one_clear_error(world: World) -> None:
    der = x509.load_pem_x509_certificate(world.leaf("35")).public_bytes(Encoding.DER)
    edited = base64.encodebytes(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x0a"))
    with pytest.raises(ConfigError, match="not a whole PEM certificate"):
        judge(world, b"-----BEGIN CERTIFICATE-----\n" + edited + b"-----END CERTIFICATE-----\n")


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_negative_serial_number_is_refused(world: World) -> None:
    certificate = x509.load_pem_x509_certificate(world.leaf("35"))
    while certificate.serial_number.bit_length() <= 152:  # all 20 bytes in use, so that the first holds the sign
        certificate = x509.load_pem_x509_certificate(world.leaf("35"))
    der, serial = certificate.public_bytes(Encoding.DER), certificate.serial_number.to_bytes(20, "big")
    negative = x509.load_der_x509_certificate(der.replace(serial, bytes([serial[0] | 0x80]) + serial[1:], 1))
    with pytest.raises(TrustError, match="not positive"):
        judge(world, pem(negative))


def test_a_subject_that_cannot_be_read_is_one_clear_error(world: World) -> None:
    der = x509.load_pem_x509_certificate(world.leaf("35")).public_bytes(Encoding.DER)
    common_name = b"\x06\x03\x55\x04\x03\x0c\x0bp35.fkd-mpu"  # OID, UTF8String
    assert common_name in der
    broken = base64.encodebytes(der.replace(common_name, common_name.replace(b"p35", b"p\xff\xff")))
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, b"-----BEGIN CERTIFICATE-----\n" + broken + b"-----END CERTIFICATE-----\n")


def test_a_half_written_second_certificate_is_not_skipped_in_silence(world: World) -> None:
    leaf = world.leaf("35")
    with pytest.raises(ConfigError, match="not a whole PEM certificate"):
        judge(world, leaf + leaf[: len(leaf) // 2])


def test_a_leaf_in_the_root_file_does_not_become_a_root(world: World) -> None:
    leaf = world.leaf("35")
    with pytest.raises(TrustError, match="not a root"):
        verify_peer(leaf, leaf, world.members("35"), NOW)
