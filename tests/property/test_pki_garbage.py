"""Whatever bytes a stranger sends as certificate, request or membership: a named refusal, never another exception."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.errors import NodeError, TrustError
from node.pki.epoch_secrets import MLKEM_SEED_BYTES, X25519_BYTES, SealingKey, read_sealed, seal
from node.pki.identity import Identity
from node.pki.membership import Member
from node.pki.repository import read_directory
from node.pki.trust import verify_peer
from tests.listing import ListedAuthority
from tests.pki_world import DAY, NOW, World, request_for

if TYPE_CHECKING:
    from node.pki.membership import Membership

# An edit may make the serial negative: the library then says so besides loading it, and our check refuses it.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")
SEALING_KEY = SealingKey(bytes(range(MLKEM_SEED_BYTES + X25519_BYTES)))
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)


@dataclass(frozen=True)
class Small:
    """What is edited, and what judges it."""

    world: World
    membership: Membership
    leaf: bytes
    request: bytes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("federation")
    world = World(folder, ListedAuthority.found(folder / "authority", "fkd-mpu", NOW - DAY), began=NOW - DAY)
    world.ca("35")
    world.authority.admit(Member("35", "Jawa Timur", "127.0.0.1:7035"))
    membership = world.authority.publish(NOW)
    return Small(
        world,
        membership,
        x509.load_pem_x509_certificate(world.leaf("35")).public_bytes(Encoding.DER),
        x509.load_pem_x509_csr(request_for(Identity("fkd-mpu", "35"))).public_bytes(Encoding.DER),
    )


def edited(data: bytes, edits: list[tuple[float, int]]) -> bytes:
    changed = bytearray(data)
    for place, flip in edits:
        changed[int(place * len(changed))] ^= flip
    return bytes(changed)


def armoured(der: bytes, kind: str) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind.encode(), base64.encodebytes(der), kind.encode())


@settings(max_examples=400, deadline=None)
@given(EDITS)
def test_no_edit_changes_what_a_certificate_says_or_escapes_as_another_error(
    small: Small, edits: list[tuple[float, int]]
) -> None:
    changed = edited(small.leaf, edits)
    try:
        verify_peer(armoured(changed, "CERTIFICATE"), small.membership, NOW)
    except NodeError:
        return
    # DER leaves the signature's own wrapping a little freedom; what is signed has none.
    told, tells = (x509.load_der_x509_certificate(der).tbs_certificate_bytes for der in (small.leaf, changed))
    assert tells == told


@settings(max_examples=300, deadline=None)
@given(EDITS)
def test_no_edit_of_a_request_gets_another_key_certified_or_escapes_as_another_error(
    small: Small, edits: list[tuple[float, int]]
) -> None:
    changed = edited(small.request, edits)
    try:
        issued = small.world.authority.issue_intermediate(armoured(changed, "CERTIFICATE REQUEST"), "35", NOW)
    except NodeError:
        return
    assert x509.load_pem_x509_certificate(issued).public_key() == x509.load_der_x509_csr(small.request).public_key()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
@example(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
@example(b"[" * 100_000)
def test_no_bytes_escape_as_another_error(small: Small, data: bytes) -> None:
    with pytest.raises(NodeError):
        verify_peer(data, small.membership, NOW)
    with pytest.raises(NodeError):
        small.world.authority.issue_intermediate(data, "35", NOW)
    with pytest.raises(NodeError):
        read_directory(data, 1, NOW)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**31 - 1), st.sampled_from(["11", "33", "94"]))
def test_what_was_sealed_opens_to_the_same_secret(secret: bytes, epoch: int, province: str) -> None:
    sealed = read_sealed(seal(secret, SEALING_KEY.public_hex, federation="fkd-mpu", province=province, epoch=epoch))
    assert (sealed.epoch, sealed.province) == (epoch, province)
    assert SEALING_KEY.open(sealed) == secret


@given(st.data())
def test_a_sealed_secret_with_any_byte_changed_is_refused_or_opens_unchanged(data: st.DataObject) -> None:
    whole = seal(bytes(range(32)), SEALING_KEY.public_hex, federation="fkd-mpu", province="33", epoch=2)
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = whole[:place] + bytes([byte]) + whole[place + 1 :]
    try:
        found = read_sealed(changed)
        secret = SEALING_KEY.open(found)
    except TrustError:
        return
    assert secret == bytes(range(32))
    assert (found.federation, found.province, found.epoch) == ("fkd-mpu", "33", 2)


@given(st.binary(max_size=3000))
def test_garbage_is_no_sealed_secret(data: bytes) -> None:
    with pytest.raises(TrustError):
        read_sealed(data)
