"""A change travels from signer to signer as one file: shown in words, signed by a threshold, edited by nobody."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Root, Targets

from node.errors import ConfigError, StoreError, TrustError
from node.pki import changes
from node.pki.membership import Epoch, EpochState, Revocation
from node.pki.proposal import Proposal, check_proposal, propose, publish, read_proposal, sign_proposal, tallies
from node.pki.register import Reason
from node.pki.repository import DIRECTORY, Contents, add_signature
from node.pki.signed import record_signing
from tests.listing import ListedAuthority
from tests.pki_world import World as PkiWorld
from tests.pki_world import pem
from tests.tuf_world import DAY, NOW, World, key, member, renew, signer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def world() -> World:
    return World.found("33", "35")


def admit(contents: Contents) -> Contents:
    return changes.with_member(contents, member("36"))


def published(world: World) -> Contents:
    copy = world.copy
    assert copy is not None
    return copy.contents


def edited(proposal: Proposal, old: str, new: str) -> Proposal:
    """The file as somebody on the way might edit it: the list, and all that is computed from it."""
    copy = propose_edited(proposal.files[DIRECTORY].replace(old.encode(), new.encode()), proposal)
    assert copy.files != proposal.files
    return copy


def propose_edited(directory: bytes, proposal: Proposal) -> Proposal:
    document = json.loads(proposal.to_bytes())
    import base64  # noqa: PLC0415

    document["files"][DIRECTORY] = base64.b64encode(directory).decode()
    document["targets"]["signed"]["targets"][DIRECTORY] = {
        "length": len(directory),
        "hashes": {"sha256": hashlib.sha256(directory).hexdigest()},
    }
    return read_proposal(json.dumps(document).encode())


# --- signing ---


def test_below_the_threshold_nothing_is_published(world: World) -> None:
    proposal = world.sign(world.proposal(admit), "31")
    with pytest.raises(TrustError, match="1 of 2 signers have signed; not yet: 18, 32"):
        publish(proposal, world.copy, key(world.holder), NOW)


def test_the_threshold_publishes(world: World) -> None:
    world.publish(world.sign(world.proposal(admit), "31", "32"))
    assert [each.code for each in published(world).membership.members] == ["33", "35", "36"]


def test_signing_twice_counts_once(world: World) -> None:
    proposal = world.sign(world.sign(world.proposal(admit), "31"), "31")
    (tally,) = tallies(proposal, check_proposal(proposal, world.copy), world.copy)
    assert (tally.signed, tally.missing) == (("31",), ("18", "32"))


def test_file_is_the_same_after_its_journey(world: World) -> None:
    proposal = world.sign(world.proposal(admit), "31")
    assert read_proposal(proposal.to_bytes()).to_bytes() == proposal.to_bytes()


def test_edit_after_a_signature_is_refused_and_names_the_signer(world: World) -> None:
    proposal = world.sign(world.proposal(admit), "31")
    changed = edited(proposal, "127.0.0.1:7036", "10.6.6.6:7036")
    with pytest.raises(TrustError, match="changed after 31 had signed it"):
        sign_proposal(changed, key("32"), world.copy)


def test_edit_before_any_signature_is_shown_to_the_signer(world: World) -> None:
    changed = edited(world.proposal(admit), "127.0.0.1:7036", "10.6.6.6:7036")
    lines = changes.describe(published(world), check_proposal(changed, world.copy))
    assert lines == ["+ member 36 Province 36 at 10.6.6.6:7036"]


@pytest.mark.parametrize("part", ["root", "targets"])
def test_what_no_reader_is_shown_cannot_be_signed(world: World, part: str) -> None:
    document = json.loads(world.proposal(admit, renew_root=True).to_bytes())
    document[part]["signed"]["surprise"] = "hidden"
    with pytest.raises(TrustError, match="something that no reader is shown"):
        sign_proposal(read_proposal(json.dumps(document).encode()), key("31"), world.copy)


def test_delegation_hidden_in_the_targets_cannot_be_signed(world: World) -> None:
    document = json.loads(world.proposal(admit).to_bytes())
    document["targets"]["signed"]["delegations"] = {"keys": {}, "roles": []}
    with pytest.raises(TrustError, match="no reader is shown"):
        sign_proposal(read_proposal(json.dumps(document).encode()), key("31"), world.copy)


def test_lowered_threshold_of_one_role_cannot_be_hidden(world: World) -> None:
    document = json.loads(world.proposal(admit, renew_root=True).to_bytes())
    document["root"]["signed"]["roles"]["targets"]["threshold"] = 1
    with pytest.raises(TrustError, match="no reader is shown"):
        sign_proposal(read_proposal(json.dumps(document).encode()), key("31"), world.copy)


@pytest.mark.parametrize("part", ["root", "targets"])
def test_longer_life_than_any_other_proposal_has_cannot_be_signed(world: World, part: str) -> None:
    document = json.loads(world.proposal(admit, renew_root=True).to_bytes())
    document[part]["signed"]["expires"] = "2036-06-01T08:00:00Z"
    with pytest.raises(TrustError, match="dates do not follow"):
        sign_proposal(read_proposal(json.dumps(document).encode()), key("31"), world.copy)


def test_proposal_dated_in_the_future_is_not_published(world: World) -> None:
    """Every node would refuse a list of tomorrow, and close."""
    copy = world.copy
    assert copy is not None
    tomorrow = world.sign(propose(admit(copy.contents), copy, NOW + DAY))
    with pytest.raises(TrustError, match="dated 2026-06-02 08:00 UTC, in the future"):
        publish(tomorrow, copy, key(world.holder), NOW)
    assert publish(tomorrow, copy, key(world.holder), NOW + DAY)


def test_key_of_no_signer_signs_nothing(world: World) -> None:
    with pytest.raises(TrustError, match="this key is no signer's"):
        sign_proposal(world.proposal(admit), key("mallory"), world.copy)


def test_signature_of_an_unknown_key_is_refused(world: World) -> None:
    proposal = world.proposal(admit)
    add_signature(proposal.targets, key("mallory"))
    with pytest.raises(TrustError, match="signature of an unknown key"):
        check_proposal(proposal, world.copy)


def test_one_signers_signature_under_anothers_name_is_refused(world: World) -> None:
    document = json.loads(world.sign(world.proposal(admit), "31").to_bytes())
    document["targets"]["signatures"][0]["keyid"] = signer("32").keyid
    with pytest.raises(TrustError, match="after 32 had signed it"):
        check_proposal(read_proposal(json.dumps(document).encode()), world.copy)


# --- what it stands on ---


def test_second_of_two_proposals_is_refused_once_the_first_is_published(world: World) -> None:
    first, second = world.proposal(admit), world.proposal(renew)
    signed = world.sign(second)
    world.publish(world.sign(first))
    with pytest.raises(TrustError, match="makes version 2 of another than version 2, which is published here"):
        publish(signed, world.copy, key(world.holder), NOW)


def test_version_that_was_given_up_is_left_out_and_can_come_no_more(world: World) -> None:
    copy = world.copy
    assert copy is not None
    given_up = world.sign(world.proposal(admit))
    instead = world.sign(propose(changes.without_member(copy.contents, "33"), copy, NOW, skip=1))
    world.publish(instead)
    assert world.copy is not None
    assert world.copy.membership.version == 3
    with pytest.raises(TrustError, match="version 2 of another than version 3"):
        publish(given_up, world.copy, key(world.holder), NOW)


def test_version_left_out_does_not_undo_what_was_published_meanwhile(world: World) -> None:
    """A proposal holds the whole list: what it was not made on top of, it would take back."""
    copy = world.copy
    assert copy is not None
    skipping = world.sign(propose(admit(copy.contents), copy, NOW, skip=1))
    world.remove("33")
    with pytest.raises(TrustError, match="version 3 of another than version 2"):
        publish(skipping, world.copy, key(world.holder), NOW)


def test_key_does_not_sign_two_lists_of_one_version_unasked(world: World, tmp_path: Path) -> None:
    file = tmp_path / "31.key"
    first, second = world.proposal(admit), world.proposal(lambda contents: changes.without_member(contents, "33"))
    record_signing(file, "fkd-mpu", first)
    record_signing(file, "fkd-mpu", read_proposal(first.to_bytes()))  # the same again
    with pytest.raises(TrustError, match="another list of version 2"):
        record_signing(file, "fkd-mpu", second)
    record_signing(file, "exercise", second)
    record_signing(file, "fkd-mpu", propose(second.contents(world.copy), world.copy, NOW, skip=1))
    record_signing(file, "fkd-mpu", second, even_so=True)
    assert stat.S_IMODE((tmp_path / "31.key.signed").stat().st_mode) == 0o600
    (tmp_path / "31.key.signed").write_text("{}\n")
    with pytest.raises(StoreError, match="damaged"):
        record_signing(file, "fkd-mpu", first)


def test_another_federations_proposal_is_refused(world: World) -> None:
    other = World.found("33", federation="fkd-other", signers=("31", "32", "33"))
    with pytest.raises(TrustError, match="is of fkd-other, and this is fkd-mpu"):
        sign_proposal(other.proposal(admit), key("31"), world.copy)


def test_timestamp_key_the_root_does_not_know_publishes_nothing(world: World) -> None:
    with pytest.raises(TrustError, match="does not know this timestamp key"):
        publish(world.sign(world.proposal(admit)), world.copy, key("mallory"), NOW)


# --- signers ---


def test_lost_key_is_replaced_by_the_others(world: World) -> None:
    world.change(lambda contents: changes.with_signers(contents, [signer("51")], ["18"]), "31", "32", "51")
    assert [each.name for each in published(world).signers] == ["31", "32", "51"]
    world.change(admit, "51", "31")


def test_new_signers_alone_do_not_take_over(world: World) -> None:
    take = world.proposal(lambda contents: changes.with_signers(contents, [signer("a"), signer("b")], ["18", "31"], 2))
    with pytest.raises(TrustError, match="0 of 2 signers until now have signed"):
        publish(world.sign(take, "a", "b"), world.copy, key(world.holder), NOW)


def test_old_signers_alone_do_not_appoint_who_has_not_agreed(world: World) -> None:
    take = world.proposal(lambda contents: changes.with_signers(contents, [signer("a"), signer("b")], ["18", "31"], 2))
    with pytest.raises(TrustError, match="1 of 2 signers have signed; not yet: a, b"):
        publish(world.sign(take, "18", "31", "32"), world.copy, key(world.holder), NOW)


def test_change_of_signers_takes_both_thresholds(world: World) -> None:
    take = world.proposal(lambda contents: changes.with_signers(contents, [signer("a"), signer("b")], ["18", "31"], 2))
    world.publish(world.sign(take, "18", "31", "a", "b"))
    assert published(world).threshold == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda contents: changes.with_signers(contents, [], [], 4), "cannot be met by 3"),
        (lambda contents: changes.with_signers(contents, [], [], 0), "cannot be met"),
        (lambda contents: changes.with_signers(contents, [], ["99"]), "nobody is called 99"),
        (lambda contents: changes.with_signers(contents, [replace(signer("18"), name="x")], []), "stands in it twice"),
        (lambda contents: changes.with_signers(contents, [replace(signer("x"), name="18")], []), "the same name"),
        (lambda contents: changes.with_signers(contents, [replace(signer("x"), name="\x1b[2J")], []), "name is"),
        (lambda contents: changes.with_holders(contents, [], ["node 18"]), "no node would hold"),
        (lambda contents: changes.with_holders(contents, [signer("18")], []), "stands in it twice"),
        (lambda contents: changes.without_member(contents, "99"), "not a member"),
        (lambda contents: changes.with_member(contents, replace(member("36"), address="127.0.0.1:7035")), "address"),
        (lambda contents: changes.without_epoch(contents, 1), "active one"),
        (lambda contents: changes.with_roots(contents, [], ["x"]), "not among"),
    ],
)
def test_change_that_cannot_be_is_refused(world: World, change: Callable[[Contents], Contents], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        change(published(world))


@pytest.mark.parametrize("path", ["../x", "members.json", "/etc/passwd", "a/b/c", "epoch-1/35.sealed\n", "", "A"])
def test_target_of_a_strange_name_is_not_proposed(world: World, path: str) -> None:
    with pytest.raises(ConfigError, match="no name for a target"):
        world.proposal(lambda contents: replace(contents, targets={path: b"x"}))


def test_sealed_secrets_travel_with_their_epoch(world: World) -> None:
    sealed = {"epoch-2/33.sealed": b"for 33", "epoch-2/35.sealed": b"for 35"}
    world.change(lambda contents: changes.with_epoch(contents, Epoch(2, "ab" * 16, EpochState.NEXT), sealed))
    assert published(world).targets == sealed
    world.change(lambda contents: changes.without_member(contents, "33"))
    assert set(published(world).targets) == {"epoch-2/35.sealed"}
    world.change(lambda contents: changes.without_epoch(contents, 2))
    assert published(world).targets == {}


# --- in words ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (admit, "+ member 36 Province 36 at 127.0.0.1:7036"),
        (lambda contents: changes.without_member(contents, "33"), "- member 33 Province 33"),
        (
            lambda contents: changes.with_member(contents, replace(member("33"), address="x:1")),
            "~ member 33: Province 33 at 127.0.0.1:7033 becomes Province 33 at x:1",
        ),
        (
            lambda contents: changes.with_member(contents, replace(member("33"), encryption_key="ab")),
            f"~ encryption key of 33: SHA-256 {hashlib.sha256(bytes([0xAB])).hexdigest()}",
        ),
        (lambda contents: changes.with_signers(contents, [], ["18"], 2), "- signer 18"),
        (lambda contents: changes.with_signers(contents, [], [], 3), "~ threshold 2 of 3 signers becomes 3 of 3"),
        (lambda contents: changes.with_holders(contents, [signer("n")], []), f"+ timestamp key n: {signer('n').key}"),
        (
            lambda contents: changes.with_revocation(contents, Revocation("ab" * 32, "1f", "key_compromise", NOW)),
            "+ revoked certificate 1f, of an issuer nobody here knows, abababababababab: key_compromise",
        ),
        (
            lambda contents: changes.with_epoch(contents, Epoch(2, "ab" * 16, EpochState.NEXT), {}),
            f"+ epoch 2: next, check value {'ab' * 16}",
        ),
        (
            lambda contents: replace(contents, targets={"epoch-2/35.sealed": b"x"}),
            "+ target epoch-2/35.sealed: 2d711642b726b044",
        ),
    ],
)
def test_change_is_told_in_words(world: World, change: Callable[[Contents], Contents], words: str) -> None:
    before = published(world)
    assert words in changes.describe(before, change(before))


def test_signers_are_told_whose_certificate_is_revoked(tmp_path: Path) -> None:
    pki = PkiWorld(tmp_path, ListedAuthority.found(tmp_path / "authority", "fkd-mpu", NOW - 60 * DAY))
    intermediate = pki.intermediate("35")[0]
    before = changes.with_member(
        published(World.found("33", roots=pki.authority.roots)),
        replace(member("35"), intermediates=(pem(intermediate).decode(),)),
    )
    own = pki.ca("35")
    pki.leaf("35")
    leaf = own.revoke_leaf(own.register.issued()[-1].serial, Reason.KEY_COMPROMISE, NOW)
    above = pki.authority.revoke_intermediate(f"{intermediate.serial_number:x}", Reason.CA_COMPROMISE, NOW)
    after = changes.with_revocation(changes.with_revocation(before, leaf), above)
    assert changes.describe(before, after) == [
        f"+ revoked certificate {leaf.serial}, a node's of province 35: key_compromise",
        f"+ revoked certificate {above.serial}, an intermediate under a root of the federation: ca_compromise",
    ]


def test_nothing_changed_says_nothing(world: World) -> None:
    assert changes.describe(published(world), published(world)) == []


def test_who_would_be_refused_everywhere_is_told_to_the_signers(
    tmp_path: Path,
) -> None:
    pki = PkiWorld(tmp_path, ListedAuthority.found(tmp_path / "authority", "fkd-mpu", NOW - 60 * DAY))
    own, of_33 = (pem(pki.intermediate(code)[0]).decode() for code in ("35", "33"))
    world = World.found("35", roots=pki.authority.roots)

    def with_intermediates(*listed: str) -> list[str]:
        return changes.concerns(changes.with_member(published(world), replace(member("35"), intermediates=listed)))

    assert with_intermediates(own) == []
    assert with_intermediates() == ["province 35 has no intermediate that counts: its node would be refused everywhere"]
    (wrong,) = with_intermediates(own, of_33)
    assert "an intermediate of province 35 does not count" in wrong
    assert "not constrained to the names of province 35" in wrong
    pki.authority.prepare(NOW)
    new = changes.with_roots(published(world), pki.authority.roots[1:], pki.authority.roots[:1])
    gone = changes.concerns(changes.with_member(new, replace(member("35"), intermediates=(own,))))
    assert gone[0].startswith("province 35 has no intermediate that counts")
    keyed = replace(member("35"), intermediates=(own,), encryption_key="ab")
    assert changes.concerns(changes.with_member(published(world), keyed)) == [
        "the encryption key of province 35 is none: no linkage key can be sealed to it"
    ]
    sound = changes.with_member(published(world), replace(keyed, encryption_key=""))
    for sealed, told in (
        ({"epoch-2/35.sealed": b"for 35"}, []),
        ({"epoch-2/33.sealed": b""}, ["no secret of epoch 2 is sealed here to 35: they need it by hand"]),
    ):
        assert changes.concerns(changes.with_epoch(sound, Epoch(2, "ab" * 16, EpochState.NEXT), sealed)) == told
    assert changes.concerns(published(World.found("35"))) == [
        "no certificate root: every node would refuse every other"
    ]


def test_that_too_few_would_decide_everything_is_told_to_the_signers(world: World) -> None:
    def first(contents: Contents) -> str:
        return changes.concerns(contents)[0]

    before = published(world)
    assert "no majority" not in first(before)  # 2 of 3
    assert first(changes.with_signers(before, [signer("33")], [])) == (
        "2 of 4 signers are no majority, and would decide everything"
    )
    assert first(changes.with_signers(before, [], [], 1)).startswith("1 of 3 signers are no majority")


# --- garbage ---


@given(st.binary(max_size=300) | st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda
       inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["format", "root", "targets", "files"]),
       inner, max_size=4)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_is_no_proposal_is_refused(data: bytes) -> None:
    with pytest.raises(TrustError):
        read_proposal(data)


def test_deeply_nested_proposal_is_refused() -> None:
    with pytest.raises(TrustError, match="not a proposal"):
        read_proposal(b"[" * 100_000)


def test_file_that_is_not_the_one_named_is_refused(world: World) -> None:
    document = json.loads(world.proposal(admit).to_bytes())
    document["files"][DIRECTORY] = "AAAA"
    with pytest.raises(TrustError, match="not the file its targets name"):
        read_proposal(json.dumps(document).encode())


def test_founding_needs_a_root(world: World) -> None:
    proposal = world.proposal(admit)
    assert proposal.root is None
    with pytest.raises(TrustError, match="nothing is published here"):
        check_proposal(proposal, None)


def test_versions_follow_one_another(world: World) -> None:
    world.change(admit, renew_root=True)
    copy = world.copy
    assert copy is not None
    assert (copy.versions[Root.type], copy.versions[Targets.type]) == (2, 2)
    assert propose(copy.contents, copy, NOW).root is None
