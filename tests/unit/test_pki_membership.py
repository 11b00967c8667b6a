"""Who belongs is what the authority signed last, and nobody else's word."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.errors import ConfigError, TrustError
from node.pki.membership import (
    Member,
    Membership,
    canonical_json,
    epoch_check,
    key_id,
    make_member,
    pre_authentication_encoding,
    read_anchor,
    sign_membership,
    verify_membership,
)
from tests.pki_world import DAY, NOW, World, found_world  # noqa: F401 - the fixture

MINUTE = timedelta(minutes=1)


def published(world: World, *codes: str, days: int = 30) -> bytes:
    for code in codes or ("35",):
        world.authority.admit(Member(code, f"Province {code}", f"127.0.0.1:70{code}"))
    return world.authority.publish(NOW, days=days)[1]


def resigned(world: World, payload: bytes) -> bytes:
    """The bytes signed with the authority's real key: what a careless or newer authority could publish."""
    key = world.authority._membership_key()
    signature = key.sign(pre_authentication_encoding("application/vnd.pulang.membership.v1+json", payload))
    return canonical_json(
        {
            "payloadType": "application/vnd.pulang.membership.v1+json",
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
        }
    )


# --- the signed file -------------------------------------------------------------------------------------------------


def test_what_is_signed_follows_the_example_in_the_dsse_specification() -> None:
    # secure-systems-lab/dsse, protocol.md, "Test Vectors"
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_published_list_says_who_belongs_and_where_they_are(world: World) -> None:
    told = verify_membership(published(world, "35", "33"), world.authority.anchor_pem, NOW)
    assert [(member.code, member.address) for member in told.members] == [
        ("33", "127.0.0.1:7033"),
        ("35", "127.0.0.1:7035"),
    ]
    assert (told.federation, told.version, told.key_epoch) == ("fkd-mpu", 1, 1)
    assert told.by_code("36") is None


def test_one_edited_address_is_noticed(world: World) -> None:
    envelope = json.loads(published(world))
    payload = base64.b64decode(envelope["payload"])
    envelope["payload"] = base64.b64encode(payload.replace(b"127.0.0.1:7035", b"127.0.0.9:7035")).decode()
    with pytest.raises(TrustError, match="changed after it was signed"):
        verify_membership(json.dumps(envelope).encode(), world.authority.anchor_pem, NOW)


def test_another_federations_key_signs_nothing_here(world: World) -> None:
    membership = world.members("35")
    with pytest.raises(TrustError, match="not signed by this federation's key"):
        verify_membership(sign_membership(membership, Ed25519PrivateKey.generate()), world.authority.anchor_pem, NOW)


def test_a_foreign_signature_under_our_keys_name_is_noticed(world: World) -> None:
    envelope = json.loads(sign_membership(world.members("35"), Ed25519PrivateKey.generate()))
    envelope["signatures"][0]["keyid"] = key_id(read_anchor(world.authority.anchor_pem))
    with pytest.raises(TrustError, match="changed after it was signed"):
        verify_membership(json.dumps(envelope).encode(), world.authority.anchor_pem, NOW)


def test_an_unsigned_list_is_refused(world: World) -> None:
    envelope = json.loads(published(world))
    envelope["signatures"] = []
    with pytest.raises(TrustError, match="not a signed membership"):
        verify_membership(json.dumps(envelope).encode(), world.authority.anchor_pem, NOW)


def test_a_signature_over_another_kind_of_payload_is_no_membership(world: World) -> None:
    envelope = json.loads(published(world))
    envelope["payloadType"] = "application/json"
    with pytest.raises(TrustError, match="not a signed membership"):
        verify_membership(json.dumps(envelope).encode(), world.authority.anchor_pem, NOW)


@pytest.mark.parametrize("size", [0, 1, 100, -2])
def test_half_a_list_is_one_clear_error(world: World, size: int) -> None:
    with pytest.raises(TrustError, match="not a signed membership"):
        verify_membership(published(world)[:size], world.authority.anchor_pem, NOW)


def test_a_list_counts_until_its_end_and_no_longer(world: World) -> None:
    envelope = published(world, days=30)
    assert verify_membership(envelope, world.authority.anchor_pem, NOW + 30 * DAY - timedelta(seconds=1))
    with pytest.raises(TrustError, match="expired at 2026-07-01 08:00 UTC"):
        verify_membership(envelope, world.authority.anchor_pem, NOW + 30 * DAY)


def test_a_list_from_the_future_points_at_the_clock(world: World) -> None:
    envelope = published(world)
    assert verify_membership(envelope, world.authority.anchor_pem, NOW - 5 * MINUTE)
    with pytest.raises(TrustError, match="in the future") as caught:
        verify_membership(envelope, world.authority.anchor_pem, NOW - 10 * MINUTE)
    assert "clock" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"version": True}, "version"),
        ({"federation": "fkd mpu"}, "federation"),
        ({"expires_at": "2026-06-01T07:00:00Z"}, "ends before it begins"),
        ({"expires_at": "2026-09-01T07:00:00"}, "timezone"),
        ({"epoch_check": "short"}, "epoch_check"),
        ({"members": [["35", "Jawa Timur", "127.0.0.1:7035"]]}, "members"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_signed_list_that_makes_no_sense_is_refused(world: World, change: dict[str, Any], why: str) -> None:
    payload = json.loads(base64.b64decode(json.loads(published(world))["payload"]))
    with pytest.raises(TrustError, match=why):
        verify_membership(resigned(world, canonical_json(payload | change)), world.authority.anchor_pem, NOW)


def test_a_province_that_stands_twice_in_a_signed_list_is_refused(world: World) -> None:
    payload = json.loads(base64.b64decode(json.loads(published(world))["payload"]))
    payload["members"] += [payload["members"][0] | {"address": "127.0.0.1:1"}]
    with pytest.raises(TrustError, match="a province stands in it twice"):
        verify_membership(resigned(world, canonical_json(payload)), world.authority.anchor_pem, NOW)


def test_an_anchor_of_another_kind_is_one_clear_error(world: World) -> None:
    with pytest.raises(ConfigError, match="not a PEM public key of the kind Ed25519"):
        verify_membership(published(world), world.authority.root_pem, NOW)


@pytest.mark.parametrize(
    ("code", "name", "address", "why"),
    [
        ("5", "Jawa Timur", "127.0.0.1:7035", "code"),
        ("35", "", "127.0.0.1:7035", "name"),
        ("35", "Jawa\x1b[2JTimur", "127.0.0.1:7035", "name"),
        ("35", "Jawa\x9b2JTimur", "127.0.0.1:7035", "name"),  # the same in one byte of Latin-1
        ("35", "\u202eruwaJ", "127.0.0.1:7035", "name"),  # written backwards
        ("35", "Jawa Timur", "127.0.0.1\x1b[2J:7035", "address"),
        ("35", "Jawa Timur", "jatim,example.org:7035", "address"),
        ("35", "Jawa Timur", "//8.8.8.8/jatim:7035", "address"),
        ("35", "Jawa Timur", "127.0.0.1", "address"),
        ("35", "Jawa Timur", "127.0.0.1:99999", "address"),
    ],
)
def test_a_member_that_cannot_be_is_refused_with_the_part_named(code: str, name: str, address: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make_member(code, name, address)


def test_the_check_value_depends_on_secret_and_epoch_and_does_not_contain_the_secret() -> None:
    secret = bytes(range(32))
    values = {epoch_check(secret, 1), epoch_check(secret, 2), epoch_check(secret[::-1], 1)}
    assert len(values) == 3
    assert all(value not in secret.hex() for value in values)


def test_a_membership_is_the_same_bytes_every_time_it_is_signed(world: World) -> None:
    membership: Membership = world.members("35", "33")
    key = world.authority._membership_key()
    assert sign_membership(membership, key) == sign_membership(membership, key)
