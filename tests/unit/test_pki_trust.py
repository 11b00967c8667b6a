"""Who is believed to be which province, and every way of pretending."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import ValidationError

from node.errors import CertificateExpiredError, CertificateRevokedError, ConfigError, NotAMemberError, TrustError
from node.pki.identity import Identity
from node.pki.keys import key_hash
from node.pki.membership import Revocation, make_revocation
from node.pki.profile import CERTIFICATES_ONLY
from node.pki.register import Reason
from node.pki.trust import server_anchors, verify_chain, verify_peer
from tests.listing import ListedAuthority
from tests.pki_world import DAY, NOW, World, found_world, make_certificate, pem  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path

    from node.pki.membership import Member, Membership

URI = x509.UniformResourceIdentifier
DNS = x509.DNSName
OWN_URI = URI("spiffe://fkd-mpu/province/35")
OWN_DNS = DNS("p35.fkd-mpu")


def judge(world: World, leaf_pem: bytes, now: Any = NOW) -> Member:
    return verify_peer(leaf_pem, world.members("35"), now)


def forged(world: World, **oddities: Any) -> bytes:
    """A leaf signed by the real intermediate's key and not of the profile: what a careless province might issue."""
    return pem(make_certificate(*world.intermediate("35"), **oddities))


def test_a_members_certificate_is_believed_to_be_its_province(world: World) -> None:
    member = judge(world, world.leaf("35"))
    assert (member.code, member.address) == ("35", "127.0.0.1:7035")


def test_the_forger_of_these_tests_makes_a_good_certificate_when_nothing_is_odd(world: World) -> None:
    assert judge(world, forged(world)).code == "35"


# --- whose signature -------------------------------------------------------------------------------------------------


def test_a_root_of_the_same_name_and_another_key_is_foreign(world: World, tmp_path: Path) -> None:
    other = World(
        tmp_path / "other", ListedAuthority.found(tmp_path / "other" / "authority", "fkd-mpu", NOW - 60 * DAY)
    )
    with pytest.raises(TrustError, match="not issued by an intermediate"):
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
    leaf = make_certificate(*world.intermediate("35"), key=key)
    with pytest.raises(TrustError, match="not issued by"):
        judge(world, pem(make_certificate(leaf, key)))


# --- the intermediate between ----------------------------------------------------------------------------------------


def between(world: World, **oddities: Any) -> tuple[bytes, x509.Certificate]:
    """A sound leaf of 35 under an intermediate that the real root signed, sound but for `oddities`."""
    key = ec.generate_private_key(ec.SECP256R1())
    intermediate = make_certificate(
        world.authority.root, world.root_key, key=key, subject="province 35", is_ca=True, **oddities
    )
    return pem(make_certificate(intermediate, key)), intermediate


def listing(world: World, *intermediates: x509.Certificate, roots: bytes | None = None) -> Membership:
    """The published list, but with these intermediates for province 35."""
    told = world.members("35")
    members = tuple(
        replace(member, intermediates=tuple(pem(each).decode() for each in intermediates)) for member in told.members
    )
    return replace(told, members=members, roots=told.roots if roots is None else (roots.decode(),))


def test_a_leaf_counts_under_a_listed_intermediate_and_not_under_another_of_the_same_root(world: World) -> None:
    leaf, intermediate = between(world)
    assert verify_peer(leaf, listing(world, intermediate), NOW).code == "35"
    with pytest.raises(TrustError, match="not issued by an intermediate that the membership lists"):
        judge(world, leaf)


def test_both_intermediates_count_while_one_replaces_the_other(world: World) -> None:
    old, new = between(world), between(world)
    both = listing(world, old[1], new[1])
    assert verify_peer(old[0], both, NOW).code == verify_peer(new[0], both, NOW).code == "35"
    with pytest.raises(TrustError, match="not issued by an intermediate"):
        verify_peer(old[0], listing(world, new[1]), NOW)


def test_a_listed_intermediate_of_a_foreign_root_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(
        tmp_path / "other", ListedAuthority.found(tmp_path / "other" / "authority", "fkd-mpu", NOW - 60 * DAY)
    )
    leaf, intermediate = other.leaf("35"), other.intermediate("35")[0]
    with pytest.raises(TrustError, match="not issued under this federation's root"):
        verify_peer(leaf, listing(world, intermediate), NOW)
    assert verify_peer(leaf, listing(world, intermediate, roots=other.authority.root_pem), NOW).code == "35"


def test_a_province_cannot_speak_for_another_with_its_own_intermediate(world: World) -> None:
    names = list(Identity("fkd-mpu", "33").subject_alternative_name)
    forged_33 = pem(make_certificate(*world.intermediate("35"), names=names))
    told = world.members("33", "35")
    with pytest.raises(TrustError, match="not issued by an intermediate that the membership lists"):
        verify_peer(forged_33, told, NOW)
    # Even if the list named 35's intermediate for 33, its name constraint would stand.
    own = pem(world.intermediate("35")[0]).decode()
    mixed = replace(told, members=tuple(replace(member, intermediates=(own,)) for member in told.members))
    with pytest.raises(TrustError, match="not constrained to the names of province 33"):
        verify_peer(forged_33, mixed, NOW)


@pytest.mark.parametrize(
    ("oddities", "why"),
    [
        ({"constraint": None}, "other extensions"),
        ({"constraint": "fkd-mpu"}, "not constrained to the names of province 35"),
        ({"constraint": "p33.fkd-mpu"}, "not constrained to the names of province 35"),
        ({"path_length": None}, "issues leaves alone"),
        ({"path_length": 1}, "issues leaves alone"),
        ({"extra": [x509.OCSPNoCheck()]}, "other extensions"),
        ({"not_after": NOW + 29 * DAY}, "not issued under this federation's root"),  # its leaf outlives it
    ],
)
def test_an_intermediate_out_of_profile_is_refused_even_if_the_root_signed_it_and_the_list_names_it(
    world: World, oddities: dict[str, Any], why: str
) -> None:
    leaf, intermediate = between(world, **oddities)
    with pytest.raises(TrustError, match=why):
        verify_peer(leaf, listing(world, intermediate), NOW)


def test_more_than_a_leaf_is_refused_in_any_order(world: World) -> None:
    leaf, intermediate = between(world)
    told = listing(world, intermediate)
    for several in (leaf + pem(intermediate), pem(intermediate) + leaf, leaf + leaf):
        with pytest.raises(TrustError, match="more than one certificate"):
            verify_peer(several, told, NOW)
    with pytest.raises(TrustError, match="extensions"):
        verify_peer(pem(intermediate), told, NOW)


def test_a_nodes_own_chain_is_leaf_then_intermediate_and_nothing_else(world: World) -> None:
    leaf, intermediate = x509.load_pem_x509_certificates(world.chain("35"))
    roots = (world.authority.root,)
    assert verify_chain((leaf, intermediate), roots).identity == Identity("fkd-mpu", "35")
    for chain in ((leaf,), (leaf, intermediate, *roots), (leaf, intermediate, intermediate)):
        with pytest.raises(TrustError, match="exactly one intermediate"):
            verify_chain(chain, roots)
    with pytest.raises(TrustError, match="extensions"):
        verify_chain((intermediate, leaf), roots)
    with pytest.raises(TrustError, match="intermediate has other extensions"):
        verify_chain((leaf, leaf), roots)


# --- taken back ------------------------------------------------------------------------------------------------------


def test_a_revoked_leaf_is_refused_at_the_next_question_and_another_of_its_province_is_not(world: World) -> None:
    stolen, sound, told = world.leaf("35"), world.leaf("35"), world.members("35")
    assert verify_peer(stolen, told, NOW).code == "35"  # now it is remembered
    serial = f"{x509.load_pem_x509_certificate(stolen).serial_number:x}"
    told = replace(told, revoked=(world.ca("35").revoke_leaf(serial, Reason.KEY_COMPROMISE, NOW),))
    with pytest.raises(CertificateRevokedError, match=r"province 35 of fkd-mpu was revoked .*: key compromise"):
        verify_peer(stolen, told, NOW)
    assert verify_peer(sound, told, NOW).code == "35"


def test_a_revoked_intermediate_takes_every_leaf_with_it(world: World) -> None:
    leaf, told = world.leaf("35"), world.members("35")
    serial = world.authority.register.issued()[-1].serial
    revocation = world.authority.revoke_intermediate(serial, Reason.CA_COMPROMISE, NOW)
    with pytest.raises(CertificateRevokedError, match="ca compromise"):
        verify_peer(leaf, replace(told, revoked=(revocation,)), NOW)
    published = world.members("35")
    assert (published.by_code("35") or told.members[0]).intermediates == ()
    assert published.revoked == (revocation,)
    with pytest.raises(TrustError, match="not issued by an intermediate"):
        verify_peer(leaf, published, NOW)


def test_the_same_serial_under_another_issuer_is_not_revoked(world: World) -> None:
    leaf, told = world.leaf("35"), world.members("35")
    serial = f"{x509.load_pem_x509_certificate(leaf).serial_number:x}"
    other = Revocation("ab" * 32, serial, "unspecified", NOW)
    assert verify_peer(leaf, replace(told, revoked=(other,)), NOW).code == "35"


def test_a_serial_number_as_openssl_writes_it_revokes_the_same_certificate(world: World) -> None:
    leaf, told = world.leaf("35"), world.members("35")
    number = x509.load_pem_x509_certificate(leaf).serial_number
    whole_bytes = number.to_bytes(number.bit_length() // 8 + 1).hex().upper()  # a zero before it, as in one of eight
    issuer = key_hash(world.intermediate("35")[1].public_key())
    for written in (f"0{number:X}", whole_bytes, bytes.fromhex(whole_bytes).hex(":")):
        revocation = make_revocation(issuer, written, "key_compromise", NOW)
        with pytest.raises(CertificateRevokedError, match="key compromise"):
            verify_peer(leaf, replace(told, revoked=(revocation,)), NOW)


def test_a_serial_number_that_could_match_no_certificate_stands_in_no_list() -> None:
    with pytest.raises(ValidationError):
        Revocation("ab" * 32, "0a1b", "superseded", NOW)
    with pytest.raises(ConfigError, match="not a revocation"):
        make_revocation("ab" * 32, "0", "superseded", NOW)


def test_a_server_is_expected_under_its_listed_and_unrevoked_intermediates_alone(world: World) -> None:
    old, new = between(world)[1], between(world)[1]
    told = listing(world, old, new)
    assert server_anchors(told, "35") == pem(old, new)
    revocation = Revocation(key_hash(world.root_key.public_key()), f"{old.serial_number:x}", "superseded", NOW)
    assert server_anchors(replace(told, revoked=(revocation,)), "35") == pem(new)
    with pytest.raises(TrustError, match="lists no intermediate of province 35"):
        server_anchors(listing(world), "35")
    with pytest.raises(TrustError, match="not constrained to the names of province 35"):
        server_anchors(listing(world, between(world, constraint="p33.fkd-mpu")[1]), "35")
    # One that does not count, such as of a root that has gone, does not shut out the other.
    assert server_anchors(listing(world, between(world, constraint="p33.fkd-mpu")[1], new), "35") == pem(new)
    with pytest.raises(NotAMemberError):
        server_anchors(told, "36")


# --- when ------------------------------------------------------------------------------------------------------------


def test_a_certificate_counts_to_its_last_second_and_no_longer(world: World) -> None:
    leaf, end = world.leaf("35", days=30), NOW + 30 * DAY
    membership = world.members("35", now=NOW, days=90)
    assert verify_peer(leaf, membership, end - timedelta(seconds=1)).code == "35"
    with pytest.raises(CertificateExpiredError, match="province 35 of fkd-mpu expired at 2026-07-01 08:00:00 UTC"):
        verify_peer(leaf, membership, end)


def test_a_certificate_counts_five_minutes_back_and_no_further(world: World) -> None:
    leaf = world.leaf("35")
    assert judge(world, leaf, NOW - timedelta(minutes=5)).code == "35"
    with pytest.raises(CertificateExpiredError, match="not valid before"):
        judge(world, leaf, NOW - timedelta(minutes=5, seconds=1))


def test_a_certificate_that_was_good_a_moment_ago_is_asked_for_its_date_again(world: World) -> None:
    leaf, membership = world.leaf("35", days=1), world.members("35")
    assert verify_peer(leaf, membership, NOW).code == "35"  # now it is remembered
    with pytest.raises(CertificateExpiredError):
        verify_peer(leaf, membership, NOW + DAY)


def test_the_beginning_of_the_intermediate_is_the_beginning_of_the_leaf(world: World) -> None:
    leaf, intermediate = between(world, not_before=NOW + DAY)
    told = listing(world, intermediate)
    with pytest.raises(CertificateExpiredError, match="not valid before 2026-06-02"):
        verify_peer(leaf, told, NOW)
    assert verify_peer(leaf, told, NOW + DAY).code == "35"


def test_a_leaf_that_outlives_its_issuer_is_refused_today(world: World) -> None:
    beyond = world.intermediate("35")[0].not_valid_after_utc + timedelta(seconds=1)
    with pytest.raises(TrustError, match="not issued under"):
        judge(world, forged(world, not_before=beyond - DAY, not_after=beyond))


# --- who -------------------------------------------------------------------------------------------------------------


def test_a_sound_certificate_of_a_province_that_is_no_member_is_refused(world: World) -> None:
    with pytest.raises(NotAMemberError, match="province 33 of fkd-mpu"):
        judge(world, world.leaf("33"))


def test_a_member_that_was_removed_is_refused_at_the_next_question(world: World) -> None:
    leaf, both = world.leaf("33"), world.members("33", "35")
    assert verify_peer(leaf, both, NOW).code == "33"
    world.authority.remove("33")
    with pytest.raises(NotAMemberError):
        verify_peer(leaf, world.members(), NOW)


def test_an_expired_membership_opens_to_nobody(world: World) -> None:
    leaf, membership = world.leaf("35"), world.members("35", days=1)
    with pytest.raises(TrustError, match="membership of fkd-mpu, version 1, expired"):
        verify_peer(leaf, membership, NOW + DAY)


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
        ({"not_after": NOW + 90 * DAY}, "longer than 90 days"),
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
def test_a_certificate_out_of_profile_is_refused_even_if_the_intermediate_signed_it(
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


def test_what_is_no_root_in_the_membership_does_not_become_one(world: World) -> None:
    leaf, told = world.leaf("35"), world.members("35")
    with pytest.raises(TrustError, match="not a root"):
        verify_peer(leaf, replace(told, roots=(leaf.decode(),)), NOW)
    with pytest.raises(TrustError, match="the membership lists no root"):
        verify_peer(leaf, replace(told, roots=()), NOW)
