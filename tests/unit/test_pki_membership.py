"""The list of members: what it may say, until when it counts, and what cannot be a member."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from node.errors import ConfigError, TrustError
from node.pki.membership import Member, Membership, epoch_check, make_member
from node.pki.repository import read_directory, write_directory
from tests.pki_world import DAY, NOW, World, found_world  # noqa: F401 - the fixture

MINUTE = timedelta(minutes=1)


def listed(world: World, days: int = 30) -> Membership:
    return world.members("35", "33", days=days)


def read(document: dict[str, Any], *, version: int = 1, expires_at: Any = NOW + 30 * DAY) -> Membership:
    return read_directory(json.dumps(document).encode(), version, expires_at)


def test_a_list_says_after_its_journey_who_belongs_and_where_they_are(world: World) -> None:
    membership = listed(world)
    told = read_directory(write_directory(membership), membership.version, membership.expires_at)
    assert told == membership
    assert [(member.code, member.address) for member in told.members] == [
        ("33", "127.0.0.1:7033"),
        ("35", "127.0.0.1:7035"),
    ]
    assert told.by_code("36") is None


def test_a_list_is_the_same_bytes_every_time_it_is_written(world: World) -> None:
    membership = listed(world)
    assert write_directory(membership) == write_directory(replace(membership))


def test_a_list_counts_until_its_end_and_no_longer(world: World) -> None:
    membership = listed(world)
    membership.check_validity(NOW + 30 * DAY - timedelta(seconds=1))
    with pytest.raises(TrustError, match="expired at 2026-07-01 08:00 UTC"):
        membership.check_validity(NOW + 30 * DAY)


def test_a_list_from_the_future_points_at_the_clock(world: World) -> None:
    membership = listed(world)
    membership.check_validity(NOW - 5 * MINUTE)
    with pytest.raises(TrustError, match="in the future") as caught:
        membership.check_validity(NOW - 10 * MINUTE)
    assert "clock" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"federation": "fkd mpu"}, "federation"),
        ({"issued_at": "2026-09-01T07:00:00Z"}, "ends before it begins"),
        ({"issued_at": "2026-05-01T07:00:00"}, "timezone"),
        ({"epoch_check": "short"}, "epoch_check"),
        ({"key_epoch": True}, "key_epoch"),
        ({"members": [["35", "Jawa Timur", "127.0.0.1:7035"]]}, "members"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(world: World, change: dict[str, Any], why: str) -> None:
    document = json.loads(write_directory(listed(world)))
    read(document)
    with pytest.raises(TrustError, match=why):
        read(document | change)


def test_a_province_that_stands_twice_in_a_list_is_refused(world: World) -> None:
    document = json.loads(write_directory(listed(world)))
    document["members"] += [document["members"][0] | {"address": "127.0.0.1:1"}]
    with pytest.raises(TrustError, match="a province stands in it twice"):
        read(document)


def test_two_members_at_one_address_are_refused(world: World) -> None:
    world.authority.admit(Member("36", "Banten", "127.0.0.1:7035"))
    with pytest.raises(ValueError, match="same address"):
        listed(world)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 100_000, b"null", b"\xff"])
def test_half_a_list_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(TrustError, match="not usable"):
        read_directory(data, 1, NOW)


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
