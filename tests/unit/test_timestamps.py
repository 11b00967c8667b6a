"""Nodes that hold a timestamp key sign by themselves, and pass one another when they have signed at the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node.config import make_config, write_config
from node.errors import TrustError
from node.home import NodeHome
from node.pki import changes
from node.pki.repository import TIMESTAMP, make_key, private_pem, read_signing_key
from tests.tuf_world import DAY, HOUR, NOW, World, join, key, read, renew, signer

if TYPE_CHECKING:
    from pathlib import Path

    from node.pki.refresh import Mirror


def holding(folder: Path, world: World, name: str = "node 18") -> Mirror:
    home = NodeHome(folder)
    write_config(home, make_config(federation="fkd-mpu", province="35"))
    mirror = join(home, world)
    mirror.key.write_bytes(private_pem(key(name)))
    mirror.key.chmod(0o600)
    return mirror


@pytest.fixture
def world() -> World:
    made = World.found("33", "35")
    made.change(lambda contents: changes.with_holders(contents, [signer("node 31")], []))
    return made


def test_timestamp_is_signed_anew_after_four_hours_and_not_before(tmp_path: Path, world: World) -> None:
    mirror = holding(tmp_path / "n", world)
    assert mirror.resign(NOW + 4 * HOUR - HOUR / 60) is None
    fresh = mirror.resign(NOW + 4 * HOUR)
    assert fresh is not None
    assert fresh.expires_at == NOW + 28 * HOUR
    assert mirror.load().versions["timestamp"] == 3


def test_expired_timestamp_is_healed_by_who_holds_the_key(tmp_path: Path, world: World) -> None:
    mirror = holding(tmp_path / "n", world)
    assert mirror.resign(NOW + 3 * DAY) is not None
    mirror.load().membership.check_validity(NOW + 3 * DAY)


def test_list_past_its_30_days_is_not_kept_alive_by_a_timestamp(tmp_path: Path, world: World) -> None:
    mirror = holding(tmp_path / "n", world)
    with pytest.raises(TrustError, match="has expired"):
        mirror.resign(NOW + 31 * DAY)


def test_key_the_root_does_not_know_signs_nothing(tmp_path: Path, world: World) -> None:
    assert holding(tmp_path / "n", world, "mallory").resign(NOW + 5 * HOUR) is None


def test_node_without_a_key_signs_nothing(tmp_path: Path, world: World) -> None:
    mirror = holding(tmp_path / "n", world)
    mirror.key.unlink()
    assert mirror.resign(NOW + 5 * HOUR) is None


def test_two_holders_that_signed_at_the_same_moment_come_together(tmp_path: Path, world: World) -> None:
    """One has published; the other, not knowing it, has signed the older list again, twice."""
    publisher, other = holding(tmp_path / "a", world), holding(tmp_path / "b", world, "node 31")
    follower = holding(tmp_path / "c", world)
    for hours in (5, 10):
        assert other.resign(NOW + hours * HOUR) is not None
    world.remove("33")
    publisher.take(read(world.files), NOW)
    follower.take(read(other.files()), NOW)
    with pytest.raises(TrustError, match="its version is older"):
        follower.take(read(publisher.files()), NOW)  # its timestamp is below the other's
    assert publisher.outrun(other.files()[TIMESTAMP], NOW) is not None
    for mirror in (follower, other):
        mirror.take(read(publisher.files()), NOW)
        assert mirror.load().membership.by_code("33") is None


def test_nobody_is_made_to_outrun_a_timestamp_no_holder_has_signed(tmp_path: Path, world: World) -> None:
    mirror, forged = holding(tmp_path / "a", world), World(dict(world.files))
    world.change(renew)
    mirror.take(read(world.files), NOW)
    forged.forge("timestamp", lambda signed: setattr(signed, "version", 2**52), "mallory")
    with pytest.raises(TrustError, match="fewer of the known keys"):
        mirror.outrun(forged.files[TIMESTAMP], NOW)


def test_signing_key_is_private_and_never_made_twice(tmp_path: Path) -> None:
    made = make_key(tmp_path / "35.key")
    assert (tmp_path / "35.key").stat().st_mode & 0o777 == 0o600
    assert (made.name, (tmp_path / "35.key.pub").exists()) == ("35", True)
    with pytest.raises(Exception, match="exists already"):
        make_key(tmp_path / "35.key")
    (tmp_path / "35.key").chmod(0o644)
    with pytest.raises(TrustError, match="can be read or written by others"):
        read_signing_key(tmp_path / "35.key")
