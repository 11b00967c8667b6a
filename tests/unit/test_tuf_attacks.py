"""What somebody who serves metadata, or holds some of the keys, can try on a node: each try refused, by real ngclient.

The cases are those of the TUF specification's client workflow (section 5) and of theupdateframework/tuf-conformance.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from node.config import make_config, write_config
from node.errors import ConfigError, NodeError, TrustError
from node.home import NodeHome
from node.pki import changes
from node.pki.refresh import Mirror
from node.pki.repository import DIRECTORY, TIMESTAMP, copy_in_use, fingerprint_of, to_bytes
from tests.tuf_world import DAY, HOUR, NOW, World, join, member, read, renew, signer

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

ROLES = (Root.type, Timestamp.type, Snapshot.type, Targets.type)


@pytest.fixture
def world() -> World:
    return World.found("33", "35")


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return new_home(tmp_path / "node")


def new_home(folder: Path, federation: str = "fkd-mpu") -> NodeHome:
    home = NodeHome(folder)
    write_config(home, make_config(federation=federation, province="35"))
    return home


@pytest.fixture
def node(home: NodeHome, world: World) -> Mirror:
    return join(home, world)


def codes(mirror: Mirror) -> list[str]:
    return [each.code for each in mirror.load().membership.members]


def refused(mirror: Mirror, world: World, why: str, now: datetime = NOW, **given: Any) -> None:
    """The node does not take this repository, says why, and goes on with the copy it has."""
    before = mirror.files()
    with pytest.raises(TrustError, match=why):
        mirror.take(given.get("read") or read(world.files), now)
    assert mirror.files() == before


def test_honest_update_is_taken(node: Mirror, world: World) -> None:
    world.change(lambda contents: changes.with_member(contents, member("36")))
    assert node.take(read(world.files), NOW) is not None
    assert codes(node) == ["33", "35", "36"]
    assert node.take(read(world.files), NOW) is None


# --- rollback: what was once newer does not become older ---


def test_rollback_of_the_timestamp_is_refused(node: Mirror, world: World) -> None:
    world.remove("33")
    node.take(read(world.files), NOW)
    world.files = dict(world.history[0])
    refused(node, world, r"timestamp\.json: its version is older")
    assert codes(node) == ["35"]


def test_rollback_of_the_snapshot_is_refused(node: Mirror, world: World) -> None:
    world.remove("33")
    node.take(read(world.files), NOW)
    newest = world.signed(Timestamp.type).signed.version
    world.files = dict(world.history[0])
    world.forge(Timestamp.type, lambda signed: setattr(signed, "version", newest + 1))  # by a stolen timestamp key
    refused(node, world, "its version is older")


def test_rollback_of_the_targets_is_refused(node: Mirror, world: World) -> None:
    world.remove("33")
    node.take(read(world.files), NOW)
    newest = world.signed(Snapshot.type), world.signed(Timestamp.type)
    world.files = dict(world.history[0])
    for metadata in newest:  # by a stolen timestamp key: the next versions, of the targets of yesterday
        metadata.signed.version += 1
        world.put(metadata, [world.holder])
    world.bind()
    refused(node, world, "its version is older")


def test_rollback_of_the_root_is_refused(node: Mirror, world: World) -> None:
    world.change(lambda contents: changes.with_signers(contents, [signer("33")], []))
    node.take(read(world.files), NOW)
    old = world.history[0]
    world.files["3.root.json"] = old["1.root.json"]
    refused(node, world, r"3\.root\.json: its version is older than, or another than")


def test_restored_old_files_do_not_bring_a_removed_member_back(home: NodeHome, node: Mirror, world: World) -> None:
    yesterday = World(dict(world.files))
    world.remove("33")
    node.take(read(world.files), NOW)
    restored = new_home(home.root.parent / "restored")
    join(restored, yesterday)
    Mirror(restored.tuf).seen.write_bytes(node.seen.read_bytes())  # kept beside the copy, not in it
    membership = Mirror(restored.tuf).load().membership
    with pytest.raises(TrustError, match="older than what this node has already seen"):
        membership.check_validity(NOW)
    refused(Mirror(restored.tuf), yesterday, "older than")
    Mirror(restored.tuf).take(read(world.files), NOW)
    Mirror(restored.tuf).load().membership.check_validity(NOW)
    assert codes(Mirror(restored.tuf)) == ["35"]


# --- freeze ---


def test_freeze_by_an_expired_timestamp_is_refused(node: Mirror, world: World) -> None:
    refused(node, world, r"timestamp\.json: it has expired", now=NOW + 24 * HOUR)


def test_frozen_node_closes_when_the_timestamp_ends(node: Mirror) -> None:
    node.load().membership.check_validity(NOW + 24 * HOUR - timedelta(seconds=1))
    with pytest.raises(TrustError, match="expired"):
        node.load().membership.check_validity(NOW + 24 * HOUR)


@pytest.mark.parametrize("role", ROLES)
def test_expired_role_is_refused(node: Mirror, world: World, role: str) -> None:
    if role == Root.type:
        world.change(renew, renew_root=True)
    else:
        world.change(renew)
    world.retime(role, NOW + HOUR)
    refused(node, world, "it has expired", now=NOW + HOUR)


@pytest.mark.parametrize("role", ROLES)
def test_earliest_end_of_all_roles_is_the_memberships(node: Mirror, world: World, role: str) -> None:
    world.change(renew, renew_root=role == Root.type)
    world.retime(role, NOW + HOUR)
    node.take(read(world.files), NOW)
    assert node.load().membership.expires_at == NOW + HOUR


def test_timestamp_that_ends_before_the_list_was_dated_ends_it_and_breaks_nothing(node: Mirror, world: World) -> None:
    """A thief of a timestamp key, and a publisher whose clock is some minutes ahead."""
    world.now = NOW + timedelta(minutes=4)
    world.change(renew)
    world.retime(Timestamp.type, NOW + timedelta(minutes=1))
    node.take(read(world.files), NOW)
    membership = node.load().membership
    membership.check_validity(NOW)
    with pytest.raises(TrustError, match="expired"):
        membership.check_validity(NOW + timedelta(minutes=1))


# --- mix and match ---


def test_mix_and_match_of_one_versions_targets_with_anothers_snapshot_is_refused(node: Mirror, world: World) -> None:
    """Two proposals for the same version were both signed; only one was published."""
    other = World(dict(world.files))
    world.change(lambda contents: changes.with_member(contents, member("36")))
    other.remove("33")
    world.files["2.targets.json"] = other.files["2.targets.json"]
    refused(node, world, r"2\.targets\.json: its length or hash")


def test_mix_and_match_of_a_newer_snapshot_with_older_targets_is_refused(node: Mirror, world: World) -> None:
    old = world.files["1.targets.json"]
    world.remove("33")
    world.files["2.targets.json"] = old
    refused(node, world, r"2\.targets\.json: its length or hash")


def test_mix_and_match_of_an_older_list_under_a_newer_name_is_refused(node: Mirror, world: World) -> None:
    (old,) = (data for name, data in world.files.items() if name.endswith(DIRECTORY))
    world.remove("33")
    (name,) = (name for name in world.files if name.endswith(DIRECTORY))
    world.files[name] = old
    refused(node, world, r"members\.json: its length or hash|members\.json: it is longer")


# --- thresholds and keys ---


@pytest.mark.parametrize("role", ROLES)
def test_unsigned_role_is_refused(node: Mirror, world: World, role: str) -> None:
    world.change(renew, renew_root=True)
    metadata = world.signed(role)
    metadata.signatures.clear()
    world.files[world.current(role)] = to_bytes(metadata)
    if role != Timestamp.type:
        rebind(world, role)
    refused(node, world, "signed by fewer of the known keys")


def rebind(world: World, role: str) -> None:
    if role == Snapshot.type:
        data = world.files[world.current(role)]
        from tests.tuf_world import _meta  # noqa: PLC0415

        version = world.signed(role).signed.version
        world.forge(Timestamp.type, lambda signed: setattr(signed, "snapshot_meta", _meta(version, data)))
    elif role == Targets.type:
        world.bind()


@pytest.mark.parametrize("role", [Root.type, Targets.type])
def test_one_signature_below_the_threshold_is_refused(node: Mirror, world: World, role: str) -> None:
    world.change(renew, renew_root=True)
    world.forge(role, lambda signed: None, "31")
    rebind(world, role)
    refused(node, world, "signed by fewer of the known keys")


@pytest.mark.parametrize("role", [Root.type, Targets.type])
def test_the_same_signature_twice_counts_once(node: Mirror, world: World, role: str) -> None:
    world.change(renew, renew_root=True)
    world.forge(role, lambda signed: None, "31")
    document = json.loads(world.files[world.current(role)])
    document["signatures"] *= 2
    world.files[world.current(role)] = json.dumps(document).encode()
    if role == Targets.type:
        bind_bytes(world)
    refused(node, world, "malformed|fewer of the known keys")


def test_one_keys_signature_under_two_names_counts_once(node: Mirror, world: World) -> None:
    world.change(renew)
    world.forge(Targets.type, lambda signed: None, "31")
    document = json.loads(world.files[world.current(Targets.type)])
    document["signatures"].append({**document["signatures"][0], "keyid": signer("32").keyid})
    world.files[world.current(Targets.type)] = json.dumps(document).encode()
    bind_bytes(world)
    refused(node, world, "fewer of the known keys")


def bind_bytes(world: World) -> None:
    """As bind, for a targets file that is no longer metadata anybody would parse."""
    from tests.tuf_world import _meta  # noqa: PLC0415

    data = world.files[world.current(Targets.type)]
    world.forge(Snapshot.type, lambda signed: signed.meta.update({"targets.json": _meta(2, data)}))
    snapshot = world.files[world.current(Snapshot.type)]
    world.forge(Timestamp.type, lambda signed: setattr(signed, "snapshot_meta", _meta(2, snapshot)))


@pytest.mark.parametrize("role", ROLES)
def test_signatures_by_unknown_keys_do_not_count(node: Mirror, world: World, role: str) -> None:
    world.change(renew, renew_root=True)
    world.forge(role, lambda signed: None, "mallory", "eve", "trent")
    rebind(world, role)
    refused(node, world, "fewer of the known keys")


def test_timestamp_key_signs_no_list_of_members(node: Mirror, world: World) -> None:
    world.change(renew)
    world.forge(Targets.type, lambda signed: None, world.holder)
    world.bind()
    refused(node, world, "fewer of the known keys")


# --- length, hash, endless data, garbage ---


@pytest.mark.parametrize("role", [Snapshot.type, Targets.type])
def test_wrong_hash_is_refused(node: Mirror, world: World, role: str) -> None:
    world.change(renew)
    name = world.current(role)
    world.files[name] = world.files[name].replace(b'"sig":"', b'"sig":"0', 1)[: len(world.files[name])]
    refused(node, world, "its length or hash")


@pytest.mark.parametrize("role", [Snapshot.type, Targets.type])
def test_wrong_length_is_refused(node: Mirror, world: World, role: str) -> None:
    world.change(renew)
    world.files[world.current(role)] = world.files[world.current(role)][:-1]
    refused(node, world, "its length or hash")


@pytest.mark.parametrize("role", [Snapshot.type, Targets.type])
def test_longer_than_signed_is_refused(node: Mirror, world: World, role: str) -> None:
    world.change(renew)
    world.files[world.current(role)] += b" "
    refused(node, world, "longer than it may be")


@pytest.mark.parametrize("role", [*ROLES, DIRECTORY])
def test_endless_data_is_refused(node: Mirror, world: World, role: str) -> None:
    world.change(lambda contents: changes.with_member(contents, member("36")), renew_root=True)
    served = 0

    def endless(file: str, offset: int) -> tuple[bytes, bool] | None:
        nonlocal served
        if role in file:
            served += 1
            return b" " * 32_768, False
        return read(world.files)(file, offset)

    refused(node, world, "longer than it may be", read=endless)
    assert served <= 40  # bounded by the role's limit, not by the sender's patience


def test_sender_of_empty_parts_is_left(node: Mirror, world: World) -> None:
    refused(node, world, "it did not come", read=lambda file, offset: (b"", False))


@pytest.mark.parametrize(
    "garbage", [b"", b"{}", b"null", b"[" * 100_000, b"\xff\xfe", b'{"signed":{"_type":"timestamp"},"signatures":[]}']
)
@pytest.mark.parametrize("role", [Root.type, Timestamp.type])
def test_malformed_metadata_is_refused(node: Mirror, world: World, role: str, garbage: bytes) -> None:
    world.change(renew, renew_root=True)
    world.files[world.current(role)] = garbage[:16_000]
    refused(node, world, "malformed")


def test_metadata_of_another_role_is_refused(node: Mirror, world: World) -> None:
    world.files[TIMESTAMP] = world.files["1.snapshot.json"]
    refused(node, world, "malformed, or of another kind")


def test_missing_file_is_named(node: Mirror, world: World) -> None:
    world.change(renew)
    del world.files["2.targets.json"]
    refused(node, world, r"2\.targets\.json: it is not there")


def test_refusal_never_quotes_the_file(node: Mirror, world: World) -> None:
    world.files[TIMESTAMP] = b'{"signed":{"_type":"\x1b[2Jcanary"},"signatures":[]}'
    with pytest.raises(TrustError) as caught:
        node.take(read(world.files), NOW)
    assert "canary" not in str(caught.value)


# --- roots ---


def test_root_rotation_below_the_old_threshold_is_refused(node: Mirror, world: World) -> None:
    world.change(lambda contents: changes.with_signers(contents, [signer("33"), signer("34")], ["18", "31"], 2),
                 "18", "31", "32", "33", "34")  # fmt: skip
    world.forge(Root.type, lambda signed: None, "33", "34", "32")  # the new ones agree; one old signer is too few
    refused(node, world, r"2\.root\.json: it is signed by fewer")


def test_root_rotation_below_the_new_threshold_is_refused(node: Mirror, world: World) -> None:
    world.change(lambda contents: changes.with_signers(contents, [signer("33"), signer("34")], ["18", "31"], 2),
                 "18", "31", "32", "33", "34")  # fmt: skip
    world.forge(Root.type, lambda signed: None, "18", "31", "32")
    refused(node, world, r"2\.root\.json: it is signed by fewer")


def test_root_rotation_with_old_and_new_thresholds_is_taken(node: Mirror, world: World) -> None:
    world.change(lambda contents: changes.with_signers(contents, [signer("33"), signer("34")], ["18", "31"], 2),
                 "18", "31", "33", "34")  # fmt: skip
    assert node.take(read(world.files), NOW) is not None
    assert {each.name for each in node.load().contents.signers} == {"32", "33", "34"}


def test_dropped_signers_signature_no_longer_counts(node: Mirror, world: World) -> None:
    world.change(lambda contents: changes.with_signers(contents, [], ["18"], 2))
    world.forge(Targets.type, lambda signed: None, "18", "31")
    world.bind()
    refused(node, world, "fewer of the known keys")


def test_fast_forward_is_healed_by_a_root_with_another_timestamp_key(node: Mirror, world: World) -> None:
    """A stolen timestamp key signed the highest version there is: no honest one could follow."""
    world.change(renew)
    for role in (Snapshot.type, Timestamp.type):
        metadata = world.signed(role)
        metadata.signed.version = 2**53
        world.put(metadata, [world.holder])
    world.bind()
    node.take(read(world.files), NOW)
    stuck = World(dict(world.history[0]))
    stuck.change(lambda contents: changes.without_member(contents, "33"))
    refused(node, stuck, "its version is older")
    healed = World(dict(world.history[0]))
    rotate = healed.proposal(lambda contents: changes.with_holders(contents, [signer("node 31")], ["node 18"]))
    healed.publish(healed.sign(rotate), holder="node 31")
    assert node.take(read(healed.files), NOW) is not None
    assert node.load().versions[Timestamp.type] < 2**53


@pytest.mark.parametrize("role", [Snapshot.type, Timestamp.type])
@pytest.mark.parametrize("version", [2**53 + 1, 2**64, 10**90])
def test_version_that_no_reader_could_hold_is_refused(node: Mirror, world: World, role: str, version: int) -> None:
    """A thief of a timestamp key would else make whoever takes it unable to tell its versions, or to find its copy."""
    world.change(renew)
    metadata = world.signed(role)
    metadata.signed.version = version
    world.put(metadata, [world.holder])
    world.bind()
    refused(node, world, "higher than any can be")


def test_another_list_of_the_same_version_is_not_put_in_its_place(node: Mirror, world: World) -> None:
    """Two were signed by a threshold and one was published: whoever holds a timestamp key would choose again."""
    given_up = World(dict(world.files))
    world.remove("33")
    node.take(read(world.files), NOW)
    given_up.change(lambda contents: changes.with_member(contents, member("94")))
    for role in (Snapshot.type, Timestamp.type):
        metadata = given_up.signed(role)
        metadata.signed.version = 9
        given_up.put(metadata, [given_up.holder])
    given_up.bind()
    refused(node, given_up, "another list of this version is here already")
    assert codes(node) == ["35"]


def test_same_list_with_other_signatures_is_the_same_list(node: Mirror, world: World) -> None:
    other = World(dict(world.files))
    proposal = world.proposal(lambda contents: changes.with_member(contents, member("36")))
    world.publish(world.sign(proposal, "18", "31"))
    node.take(read(world.files), NOW)
    other.publish(other.sign(proposal, "31", "32"))
    other.forge(Timestamp.type, lambda signed: setattr(signed, "version", 9))
    assert node.take(read(other.files), NOW) is not None


def test_version_of_five_thousand_digits_is_refused(node: Mirror, world: World) -> None:
    world.files[TIMESTAMP] = world.files[TIMESTAMP].replace(b'"version":1', b'"version":' + b"9" * 5000)
    refused(node, world, "malformed")


def test_new_root_counts_although_the_rest_of_the_update_was_withheld(node: Mirror, world: World) -> None:
    """A root drops a stolen timestamp key; whoever serves it gives the root, and then goes on with the stolen key."""
    before = World(dict(world.files))
    rotate = world.proposal(lambda contents: changes.with_holders(contents, [signer("node 31")], ["node 18"]))
    world.publish(world.sign(rotate), holder="node 31")
    withheld = {**before.files, "2.root.json": world.files["2.root.json"]}
    refused(node, World(withheld), "fewer of the known keys")
    before.forge(Timestamp.type, lambda signed: setattr(signed, "version", 9))  # the thief, by way of somebody else
    refused(node, before, "fewer of the known keys")
    assert node.take(read(world.files), NOW) is not None


def test_three_roots_are_followed_one_after_the_other(node: Mirror, world: World) -> None:
    for name in ("33", "34", "35"):
        added = [signer(name)]
        world.change(lambda contents, added=added: changes.with_signers(contents, added, []), "18", "31", "32")  # type: ignore[misc]
    assert node.take(read(world.files), NOW) is not None
    assert node.load().versions[Root.type] == 4


# --- the first trust, and names ---


def test_another_federations_root_is_refused_at_the_first_joining(home: NodeHome, world: World) -> None:
    other = World.found("33", signers=("a", "b", "c"))
    with pytest.raises(TrustError, match="the repository's first root has SHA-256"):
        Mirror(home.tuf).install(other.files, NOW, root_sha256=fingerprint_of(world.files["1.root.json"]))
    assert not home.tuf.exists()


def test_first_joining_without_a_fingerprint_is_refused(home: NodeHome, world: World) -> None:
    with pytest.raises(ConfigError, match="trusts no root yet"):
        Mirror(home.tuf).install(world.files, NOW)


def test_joined_node_takes_no_other_federations_metadata(node: Mirror) -> None:
    other = World.found("33", signers=("a", "b", "c"))
    other.change(renew)
    refused(node, other, "fewer of the known keys")


@pytest.fixture
def exercise(world: World) -> World:
    """Another federation that the same people sign with the same keys, as for an exercise; ahead of the real one."""
    exercise = World.found("33", "35", "94", federation="exercise")
    exercise.change(renew, renew_root=True)
    return exercise


def test_what_the_same_signers_signed_for_another_federation_is_not_taken(
    node: Mirror, world: World, exercise: World
) -> None:
    mixed = {**exercise.files, "1.root.json": world.files["1.root.json"]}
    refused(node, World(mixed), "not of one federation")
    del mixed["2.root.json"]  # its list alone
    refused(node, World(mixed), "not of one federation")


def test_root_of_another_federation_is_not_kept_either(node: Mirror, world: World, exercise: World) -> None:
    withheld = {**world.files, "2.root.json": exercise.files["2.root.json"]}
    refused(node, World(withheld), "not of one federation")
    assert not (node.current.parent / "roots").exists()
    world.change(renew, renew_root=True)
    assert node.take(read(world.files), NOW) is not None


def test_signed_list_that_makes_no_sense_is_refused(node: Mirror, world: World) -> None:
    # A threshold of careless signers, past our own checks.
    copy = world.copy
    assert copy is not None
    twice = (*copy.membership.members, replace(copy.membership.members[0], address="127.0.0.1:1"))
    membership = copy.membership
    object.__setattr__(membership, "members", twice)
    from node.pki.repository import Contents, build_targets, target_file  # noqa: PLC0415

    contents = Contents(membership, copy.contents.signers, 2, copy.contents.holders)
    targets = build_targets(contents, 2, NOW + DAY, follows=1)
    from tuf.api.metadata import Metadata  # noqa: PLC0415

    world.put(Metadata(targets), world.signers)
    world.files[target_file(targets.targets[DIRECTORY])] = contents.files[DIRECTORY]
    for role in (Snapshot.type, Timestamp.type):
        metadata = world.signed(role)
        metadata.signed.version += 1
        world.put(metadata, [world.holder])
    world.bind()
    refused(node, world, "a province stands in it twice")


# --- the copy on the disk ---


@pytest.mark.parametrize("name", ["1.targets.json", "1.snapshot.json", TIMESTAMP])
def test_edited_copy_on_the_disk_is_noticed(node: Mirror, name: str) -> None:
    path = copy_in_use(node.current.parent) / name
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(TrustError):
        node.load()


def test_damaged_copy_is_repaired_by_joining_again(node: Mirror, world: World) -> None:
    for name in ("1.targets.json", "1.snapshot.json"):
        (copy_in_use(node.current.parent) / name).write_bytes(b"{")
    with pytest.raises(NodeError):
        node.load()
    node.install(world.files, NOW)
    assert codes(node) == ["33", "35"]


@pytest.mark.parametrize(
    "name", ["../root.json", "/etc/passwd", "timestamp.key", "targets/../../timestamp.key", "0.root.json", ""]
)
def test_nothing_but_metadata_is_served(node: Mirror, home: NodeHome, name: str) -> None:
    node.key.write_bytes(b"secret")
    assert node.read(name, 0, 100) is None


def test_parts_of_a_file_join_to_the_whole(node: Mirror, world: World) -> None:
    whole, offset, last = b"", 0, False
    while not last:
        part = node.read("1.root.json", offset, 100)
        assert part is not None
        content, last = part
        whole, offset = whole + content, offset + len(content)
    assert whole == world.files["1.root.json"]


def test_clock_is_the_one_given(node: Mirror, world: World) -> None:
    """ngclient would read the machine's clock, which says another year than this test's."""
    assert node.take(read(world.files), NOW + HOUR) is None
    with pytest.raises(TrustError, match="expired"):
        node.take(read(world.files), NOW + 400 * DAY)
