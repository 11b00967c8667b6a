"""Roots and intermediates change hands in stages: who signs, who is trusted, and which verb may follow which."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from node.errors import ConfigError, StoreError, TrustError
from node.pki.credentials import adopt_roots, load_credentials
from node.pki.identity import Identity
from node.pki.register import Reason, read_revocation, revocation_json
from node.pki.renewal import renew
from node.pki.stages import Stage
from node.pki.trust import verify_peer
from tests.listing import ListedAuthority
from tests.pki_world import DAY, NOW, World, found_world, pem, request_for  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from node.home import NodeHome
    from node.pki.membership import Membership
    from node.pki.stages import Issuers

FIRST, SECOND = 0, 1


def stages(issuers: Issuers) -> list[str]:
    return [issuer.stage.value for issuer in issuers]


def leaf_of(home: NodeHome, now: object = NOW) -> bytes:
    return pem(x509.load_pem_x509_certificates(load_credentials(home, now).chain_pem)[0])  # type: ignore[arg-type]


def listed(world: World, now: object = NOW) -> Membership:
    return world.authority.publish(now)  # type: ignore[arg-type]


# --- the root --------------------------------------------------------------------------------------------------------


def test_a_root_rolls_from_stage_to_stage_and_never_are_three_trusted(world: World) -> None:
    authority = world.authority
    first = authority.root
    assert stages(authority.issuers) == ["active"]
    authority.prepare(NOW)
    assert stages(authority.issuers) == ["active", "prepared"]
    assert authority.root == first  # trusted, not yet signing
    assert len(authority.roots) == 2
    authority.activate(NOW)
    assert stages(authority.issuers) == ["old", "active"]
    assert authority.root != first
    with pytest.raises(TrustError, match=r"number 1 is old .* never three"):
        authority.prepare(NOW)
    authority.taint(NOW)
    with pytest.raises(TrustError, match="number 1 is tainted"):
        authority.prepare(NOW)
    authority.revoke(NOW)
    assert stages(authority.issuers) == ["revoked", "active"]
    assert authority.root_pem == (authority.folder / "root.pem").read_bytes() == pem(authority.root)


def test_a_verb_out_of_order_is_refused_with_the_next_step(world: World) -> None:
    authority = world.authority
    for verb, why, step in (
        (authority.taint, "no old one to taint", "pulang ca prepare"),
        (authority.revoke, "nothing is tainted", "pulang ca status"),
    ):
        with pytest.raises(TrustError, match=why) as refused:
            verb(NOW)
        assert step in (refused.value.hint or "")
    authority.prepare(NOW)
    authority.activate(NOW)
    with pytest.raises(TrustError, match="old and not tainted") as refused:
        authority.revoke(NOW)
    assert "pulang ca taint" in (refused.value.hint or "")
    assert stages(authority.issuers) == ["old", "active"]


def test_a_verb_right_after_itself_changes_nothing(world: World) -> None:
    authority = world.authority
    for verb in (authority.prepare, authority.activate, authority.taint, authority.revoke):
        verb(NOW)
        before = (authority.folder / "roots" / "stages.json").read_bytes()
        verb(NOW + timedelta(minutes=1))
        assert (authority.folder / "roots" / "stages.json").read_bytes() == before


def test_a_tainted_issuers_key_is_gone(world: World) -> None:
    authority = world.authority
    authority.prepare(NOW)
    authority.activate(NOW)
    assert (authority.folder / "roots" / "1.key").exists()
    authority.taint(NOW)
    assert not (authority.folder / "roots" / "1.key").exists()
    assert (authority.folder / "roots" / "2.key").exists()


def test_what_both_roots_signed_counts_until_the_old_one_is_revoked(world: World) -> None:
    old = world.renewing("35")
    world.members("35")
    authority = world.authority
    authority.prepare(NOW)
    authority.activate(NOW)
    assert verify_peer(leaf_of(old), listed(world), NOW).code == "35"
    adopt_roots(old, authority.roots)
    own = world.prepared(old)
    own.activate(NOW)
    renew(old, NOW)
    new_leaf = leaf_of(old)
    authority.taint(NOW)
    assert verify_peer(new_leaf, listed(world), NOW).code == "35"
    authority.revoke(NOW, force=True)
    told = listed(world)
    assert len(told.roots) == 1
    assert verify_peer(new_leaf, told, NOW).code == "35"
    assert len((told.by_code("35") or told.members[0]).intermediates) == 1  # what hung on the old root is not listed


def test_a_root_is_not_revoked_while_a_province_hangs_on_it_alone(world: World) -> None:
    world.members("33", "35")
    authority = world.authority
    for verb in (authority.prepare, authority.activate, authority.taint):
        verb(NOW)
    with pytest.raises(TrustError, match="provinces 33, 35 hang"):
        authority.revoke(NOW)
    authority.issue_intermediate(request_for(Identity("fkd-mpu", "33")), "33", NOW)
    with pytest.raises(TrustError, match="provinces 35 hang"):
        authority.revoke(NOW)
    authority.revoke(NOW, force=True)
    assert stages(authority.issuers) == ["revoked", "active"]


def test_the_next_root_signs_what_the_old_one_no_longer_could(world: World) -> None:
    authority = world.authority
    late = authority.root.not_valid_after_utc - 30 * DAY
    with pytest.raises(TrustError, match="would outlive its issuer"):
        authority.issue_intermediate(request_for(Identity("fkd-mpu", "35")), "35", late)
    authority.prepare(late)
    authority.activate(late)
    assert authority.issue_intermediate(request_for(Identity("fkd-mpu", "35")), "35", late)


def test_a_damaged_list_of_stages_stops_the_authority(world: World) -> None:
    path = world.authority.folder / "roots" / "stages.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"stages\.json is damaged"):
        world.authority.prepare(NOW)


def test_stages_that_others_can_write_are_refused(world: World) -> None:
    (world.authority.folder / "roots" / "stages.json").chmod(0o666)
    with pytest.raises(TrustError, match="can be read or written by others"):
        ListedAuthority(world.authority.folder).prepare(NOW)


# --- an intermediate -------------------------------------------------------------------------------------------------


def test_an_intermediate_rolls_while_leaves_of_both_count(world: World) -> None:
    home = world.renewing("35")
    own = world.prepared(home)
    world.members("35")
    old_leaf = leaf_of(home)
    own.activate(NOW)
    renew(home, NOW)
    told = listed(world)
    assert stages(own.issuers) == ["old", "active"]
    assert verify_peer(old_leaf, told, NOW).code == verify_peer(leaf_of(home), told, NOW).code == "35"
    own.taint(NOW)
    revocation = own.revoke(NOW, Reason.SUPERSEDED)
    assert world.authority.register.revoke(revocation.serial, Reason.SUPERSEDED, NOW) == revocation
    told = listed(world)
    assert verify_peer(leaf_of(home), told, NOW).code == "35"
    with pytest.raises(TrustError):
        verify_peer(old_leaf, told, NOW)


def test_the_request_of_a_waiting_key_is_given_again_and_another_only_when_told(world: World) -> None:
    own = world.ca("35")
    first, again = own.prepare(NOW), own.prepare(NOW)
    other = own.prepare(NOW, discard=True)
    keys = [x509.load_pem_x509_csr(each).public_key() for each in (first, again, other)]
    assert keys[0] == keys[1] != keys[2]
    stale = world.authority.issue_intermediate(first, "35", NOW)
    with pytest.raises(TrustError, match="not made for the key that waits"):
        own.install(stale, NOW)


def test_nothing_foreign_is_installed_as_an_intermediate(world: World) -> None:
    home = world.home("35")
    own = world.prepared(home)  # number 1
    own.activate(NOW)
    before = own.issuers
    request = own.prepare(NOW)
    waiting = own.issuers
    other = world.authority.issue_intermediate(request_for(Identity("fkd-mpu", "33")), "33", NOW)
    leaf = world.leaf("35")
    good = world.authority.issue_intermediate(request, "35", NOW)
    for bad, error in (
        (other, TrustError),
        (leaf, TrustError),
        (pem(world.authority.root), TrustError),
        (good + good, TrustError),
        (good[: len(good) // 2], ConfigError),
    ):
        with pytest.raises(error):
            own.install(bad, NOW)
        assert own.issuers == waiting
    with pytest.raises(TrustError, match="the intermediate counts from"):
        own.install(good, NOW + 366 * DAY)
    own.install(good, NOW)
    own.install(good, NOW)  # again: nothing changes
    assert own.issuers[FIRST] == before[FIRST]
    assert own.issuers[SECOND].stage is Stage.PREPARED


def test_an_intermediates_key_that_others_can_read_signs_nothing(world: World) -> None:
    home = world.renewing("35")
    (home.ca / "1.key").chmod(0o640)
    with pytest.raises(TrustError, match="can be read or written by others"):
        renew(home, NOW)


def test_half_an_intermediates_key_is_one_clear_error(world: World) -> None:
    home = world.renewing("35")
    path = home.ca / "1.key"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(ConfigError, match="not a whole private key"):
        renew(home, NOW)
    assert load_credentials(home, NOW).province == "35"


def test_an_intermediates_own_key_is_not_certified_as_a_leaf(world: World) -> None:
    _, key = world.intermediate("35")
    with pytest.raises(TrustError, match="an intermediate's own"):
        world.issue(request_for(Identity("fkd-mpu", "35"), key=key), "35")


def test_a_province_issues_for_itself_alone(world: World) -> None:
    with pytest.raises(TrustError, match=r"the request is of province 33 .* of province 35"):
        world.issue(request_for(Identity("fkd-mpu", "33")), "35")


def test_no_leaf_outlives_its_intermediate(world: World) -> None:
    end = world.intermediate("35")[0].not_valid_after_utc
    assert world.chain("35", end - 7 * DAY, 7)
    with pytest.raises(TrustError, match="would outlive its issuer"):
        world.chain("35", end - 7 * DAY + timedelta(seconds=1), 7)


def test_a_revocation_travels_as_a_file(world: World) -> None:
    serial = f"{x509.load_pem_x509_certificate(world.leaf('35')).serial_number:x}"
    revocation = world.ca("35").revoke_leaf(serial.upper(), Reason.KEY_COMPROMISE, NOW)
    assert read_revocation(revocation_json(revocation)) == revocation
    assert world.ca("35").revoke_leaf(serial, Reason.SUPERSEDED, NOW + DAY) == revocation  # the first word stands
    with pytest.raises(ConfigError, match="not a revocation"):
        read_revocation(revocation_json(revocation)[:-9])
