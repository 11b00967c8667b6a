"""Who belongs is what the authority signed last, and nobody else's word."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from matching.errors import SchemaError
from node.errors import ConfigError, NodeError, TrustError
from node.pki.authority import Authority
from node.pki.joining import join_federation
from node.pki.membership import (
    Member,
    Membership,
    canonical_json,
    epoch_check,
    key_id,
    load_membership,
    make_member,
    pre_authentication_encoding,
    read_anchor,
    sign_membership,
    verify_membership,
)
from tests.pki_world import DAY, NOW, World, found_world  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path

    from node.home import NodeHome

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


# --- joining ---------------------------------------------------------------------------------------------------------


def secret_of(world: World) -> str:
    return world.authority.epoch_secret(1).read_text()


def joined(world: World, *codes: str) -> NodeHome:
    home = world.home("35")
    join_federation(
        home,
        published(world, *codes),
        NOW,
        anchor_pem=world.authority.anchor_pem,
        secret_text=secret_of(world),
    )
    return home


def state(home: NodeHome) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


def refused(home: NodeHome, envelope: bytes, error: type[Exception], why: str, **given: Any) -> None:
    before = state(home)
    with pytest.raises(error, match=why):
        join_federation(home, envelope, given.pop("now", NOW), **given)
    assert state(home) == before


def test_a_joined_node_loads_what_was_published_and_holds_the_secret_private(world: World) -> None:
    home = joined(world)
    loaded = load_membership(home.membership, home.membership_anchor, NOW)
    assert [member.code for member in loaded.members] == ["35"]
    assert home.epoch_secret(1).read_text() == secret_of(world)
    assert home.epoch_secret(1).stat().st_mode & 0o777 == 0o600


def test_a_newer_list_is_taken_in_without_anchor_and_secret(world: World) -> None:
    home = joined(world)
    assert join_federation(home, published(world, "33"), NOW).version == 2
    assert load_membership(home.membership, home.membership_anchor, NOW).by_code("33")


def test_the_list_does_not_go_back(world: World) -> None:
    old = published(world, "35", "33")
    home = joined(world)
    world.authority.remove("33")
    join_federation(home, published(world), NOW)
    refused(home, old, TrustError, "is version 1, and this node has version 3")


def test_an_expired_list_in_the_folder_still_keeps_an_older_one_out(world: World) -> None:
    older = published(world, days=90)
    home = world.home("35")
    anchor, secret = world.authority.anchor_pem, secret_of(world)
    join_federation(home, published(world, days=1), NOW, anchor_pem=anchor, secret_text=secret)
    refused(home, older, TrustError, "is version 1, and this node has version 2", now=NOW + 2 * DAY)


def test_two_lists_of_one_version_raise_an_alarm(world: World) -> None:
    home = joined(world)
    installed = load_membership(home.membership, home.membership_anchor, NOW)
    other = replace(installed, members=(Member("35", "Jawa Timur", "10.6.6.6:7035"),))
    envelope = sign_membership(other, world.authority._membership_key())
    refused(home, envelope, TrustError, "two different memberships carry version 1")


def test_taking_in_the_same_list_again_changes_nothing(world: World) -> None:
    home = joined(world)
    before = state(home)
    join_federation(home, home.membership.read_bytes(), NOW)
    assert state(home) == before


def test_a_damaged_list_in_the_folder_is_repaired_by_joining_again(world: World) -> None:
    home = joined(world)
    home.membership.write_bytes(home.membership.read_bytes()[:100])
    with pytest.raises(TrustError, match="not a signed membership"):
        load_membership(home.membership, home.membership_anchor, NOW)
    join_federation(home, published(world), NOW)
    assert load_membership(home.membership, home.membership_anchor, NOW).version == 2


def test_another_anchor_does_not_replace_the_one_that_is_trusted(world: World, tmp_path: Path) -> None:
    home = joined(world)
    other = World(tmp_path, Authority.found(tmp_path / "other", "fkd-mpu", NOW))
    refused(home, published(other), TrustError, "not the one this node trusts", anchor_pem=other.authority.anchor_pem)
    refused(home, published(other), TrustError, "not signed by this federation's key")


def test_another_federations_list_is_refused(world: World, tmp_path: Path) -> None:
    home = world.home("35")
    other = World(tmp_path, Authority.found(tmp_path / "other", "fkd-other", NOW))
    given = {"anchor_pem": other.authority.anchor_pem, "secret_text": secret_of(other)}
    refused(home, published(other), TrustError, "of fkd-other, and this node is of fkd-mpu", **given)


def test_an_expired_list_is_not_taken_in(world: World) -> None:
    home = joined(world)
    refused(home, published(world, days=1), TrustError, "expired", now=NOW + DAY)


def test_the_first_joining_needs_an_anchor_and_the_secret(world: World) -> None:
    home = world.home("35")
    refused(home, published(world), ConfigError, "no anchor yet", secret_text=secret_of(world))
    refused(home, published(world), ConfigError, "no linkage secret of epoch 1", anchor_pem=world.authority.anchor_pem)


def test_a_wrong_secret_is_found_out_before_it_answers_nobody_anywhere(world: World) -> None:
    home = world.home("35")
    given = {"anchor_pem": world.authority.anchor_pem, "secret_text": bytes(range(32)).hex()}
    refused(home, published(world), TrustError, "not the secret of epoch 1", **given)


def test_a_wrong_secret_already_in_the_folder_is_found_out_too(world: World) -> None:
    home = joined(world)
    home.epoch_secret(1).write_text(bytes(range(32)).hex())
    refused(home, published(world), TrustError, r"epoch-1\.key is not the secret of epoch 1")


@pytest.mark.parametrize("text", ["", "zz", "00" * 32, "ab" * 16])
def test_a_malformed_or_weak_secret_is_refused_without_being_shown(world: World, text: str) -> None:
    home = world.home("35")
    with pytest.raises(SchemaError) as caught:
        join_federation(home, published(world), NOW, anchor_pem=world.authority.anchor_pem, secret_text=text)
    assert not text or text not in str(caught.value)


def test_a_missing_list_says_how_to_get_one(world: World) -> None:
    home = world.home("35")
    with pytest.raises(NodeError) as caught:
        load_membership(home.membership, home.membership_anchor, NOW)
    assert "pulang federation join" in (caught.value.hint or "")


def test_the_check_value_depends_on_secret_and_epoch_and_does_not_contain_the_secret() -> None:
    secret = bytes(range(32))
    values = {epoch_check(secret, 1), epoch_check(secret, 2), epoch_check(secret[::-1], 1)}
    assert len(values) == 3
    assert all(value not in secret.hex() for value in values)


def test_a_membership_is_the_same_bytes_every_time_it_is_signed(world: World) -> None:
    membership: Membership = world.members("35", "33")
    key = world.authority._membership_key()
    assert sign_membership(membership, key) == sign_membership(membership, key)
