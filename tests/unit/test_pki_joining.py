"""A node's first trust, and its linkage secret: told by another channel, checked, written whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from matching.errors import SchemaError
from node.config import make_config, write_config
from node.errors import ConfigError, NodeError, TrustError
from node.home import NodeHome
from node.pki import changes
from node.pki.joining import join_federation
from node.pki.refresh import Mirror
from node.pki.repository import fingerprint_of
from tests.tuf_world import DAY, NOW, SECRET, World, member

if TYPE_CHECKING:
    from pathlib import Path

    from node.pki.repository import Files

OTHERS = ("a", "b", "c")


@pytest.fixture
def world() -> World:
    return World.found("35")


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    home = NodeHome(tmp_path / "n35")
    write_config(home, make_config(federation="fkd-mpu", province="35"))
    return home


def root_of(world: World) -> str:
    return fingerprint_of(world.files["1.root.json"])


def state(home: NodeHome) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


def refused(home: NodeHome, files: Files, error: type[Exception], why: str, **given: Any) -> None:
    before = state(home)
    with pytest.raises(error, match=why):
        join_federation(home, files, given.pop("now", NOW), **given)
    assert state(home) == before


def join(home: NodeHome, world: World) -> None:
    join_federation(home, world.files, NOW, root_sha256=root_of(world), secret_text=SECRET.hex())


def test_a_joined_node_loads_what_was_published_and_holds_the_secret_private(home: NodeHome, world: World) -> None:
    join(home, world)
    assert [each.code for each in Mirror(home.tuf).load().membership.members] == ["35"]
    assert home.epoch_secret(1).read_text().strip() == SECRET.hex()
    assert home.epoch_secret(1).stat().st_mode & 0o777 == 0o600


def test_a_newer_list_is_taken_in_without_root_and_secret(home: NodeHome, world: World) -> None:
    join(home, world)
    world.change(lambda contents: changes.with_member(contents, member("33")))
    assert join_federation(home, world.files, NOW).version == 2
    assert Mirror(home.tuf).load().membership.by_code("33")


def test_the_list_does_not_go_back(home: NodeHome, world: World) -> None:
    old = dict(world.files)
    world.change(lambda contents: changes.with_member(contents, member("33")))
    join(home, world)
    refused(home, old, TrustError, "its version is older")


def test_taking_in_the_same_list_again_changes_nothing(home: NodeHome, world: World) -> None:
    join(home, world)
    before = state(home)
    join_federation(home, world.files, NOW)
    assert state(home) == before


def test_another_root_does_not_replace_the_one_that_is_trusted(home: NodeHome, world: World) -> None:
    join(home, world)
    other = World.found("35", signers=OTHERS)
    refused(home, other.files, TrustError, "not the one this node trusts", root_sha256=root_of(other))


def test_another_federations_list_is_refused(home: NodeHome) -> None:
    other = World.found("35", federation="fkd-other")
    given = {"root_sha256": root_of(other), "secret_text": SECRET.hex()}
    refused(home, other.files, TrustError, "of fkd-other, and this node is of fkd-mpu", **given)


def test_an_expired_list_is_not_taken_in(home: NodeHome, world: World) -> None:
    given = {"root_sha256": root_of(world), "secret_text": SECRET.hex()}
    refused(home, world.files, TrustError, "expired", now=NOW + DAY, **given)


def test_the_first_joining_needs_the_root(home: NodeHome, world: World) -> None:
    refused(home, world.files, ConfigError, "trusts no root yet", secret_text=SECRET.hex())


def test_a_repository_with_another_root_than_was_told_is_refused(home: NodeHome, world: World) -> None:
    given = {"root_sha256": "0" * 64, "secret_text": SECRET.hex()}
    refused(home, world.files, TrustError, "first root has SHA-256", **given)


def test_a_wrong_secret_is_found_out_before_it_answers_nobody_anywhere(home: NodeHome, world: World) -> None:
    given = {"root_sha256": root_of(world), "secret_text": SECRET[::-1].hex()}
    refused(home, world.files, TrustError, "not the secret of epoch 1", **given)


def test_a_wrong_secret_already_in_the_folder_is_found_out_too(home: NodeHome, world: World) -> None:
    join(home, world)
    home.epoch_secret(1).write_text(SECRET[::-1].hex())
    refused(home, world.files, TrustError, r"epoch-1\.key is not the secret of epoch 1")


@pytest.mark.parametrize("text", ["", "zz", "00" * 32, "ab" * 16])
def test_a_malformed_or_weak_secret_is_refused_without_being_shown(home: NodeHome, world: World, text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        join_federation(home, world.files, NOW, root_sha256=root_of(world), secret_text=text)
    assert not text or text not in str(caught.value)


def test_a_missing_list_says_how_to_get_one(home: NodeHome) -> None:
    with pytest.raises(NodeError) as caught:
        Mirror(home.tuf).load()
    assert "pulang federation join" in (caught.value.hint or "")
