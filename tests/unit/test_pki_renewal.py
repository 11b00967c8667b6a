"""A node renews its own leaf: when it is due, what it leaves behind, and what a crash or a full disk leaves."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from node.errors import ConfigError, StoreError, TrustError
from node.home import NodeHome
from node.pki import authority as authority_module
from node.pki import credentials as credentials_module
from node.pki import intermediate as intermediate_module
from node.pki import register as register_module
from node.pki import stages as stages_module
from node.pki.credentials import adopt_roots, load_credentials
from node.pki.intermediate import ProvinceAuthority
from node.pki.register import Reason
from node.pki.renewal import renew, renew_if_due
from node.pki.trust import verify_peer
from tests.listing import ListedAuthority
from tests.pki_world import DAY, NOW, World, found_world, pem, request_for  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

LIFE = 7 * DAY + timedelta(minutes=5)  # backdated by five minutes
DUE = NOW - timedelta(minutes=5) + LIFE * (2 / 3)


def leaf(home: NodeHome, now: datetime = NOW) -> x509.Certificate:
    return x509.load_pem_x509_certificates(load_credentials(home, now).chain_pem)[0]


# --- when ------------------------------------------------------------------------------------------------------------


def test_a_leaf_is_renewed_at_two_thirds_of_its_life_and_not_before(world: World) -> None:
    home = world.renewing("35")
    assert renew_if_due(home, DUE - timedelta(seconds=1), 0.0) is None
    renewed = renew_if_due(home, DUE, 0.0)
    assert renewed is not None
    assert renewed.not_after == DUE.replace(microsecond=0) + 7 * DAY
    assert renew_if_due(home, DUE, 0.0) is None  # once is enough


def test_jitter_renews_earlier_by_a_twentieth_of_its_life_at_most(world: World) -> None:
    home = world.renewing("35")
    assert renew_if_due(home, DUE - LIFE / 20 - timedelta(seconds=1), 1.0) is None
    assert renew_if_due(home, DUE - LIFE / 20 + timedelta(seconds=1), 0.5) is None
    assert renew_if_due(home, DUE - LIFE / 20 + timedelta(seconds=1), 1.0) is not None


def test_a_new_node_gets_its_first_leaf_by_itself(world: World) -> None:
    home = world.home("35")
    assert renew_if_due(home, NOW, 0.0) is None  # no intermediate here: kept elsewhere
    own = world.prepared(home)
    assert renew_if_due(home, NOW, 0.0) is None  # prepared, not yet signing
    own.activate(NOW)
    assert renew_if_due(home, NOW, 0.0) is not None
    assert load_credentials(home, NOW).province == "35"


def test_an_expired_leaf_is_renewed_whenever_the_node_comes_back(world: World) -> None:
    home = world.renewing("35")
    assert renew_if_due(home, NOW + 100 * DAY, 0.0) is not None
    assert load_credentials(home, NOW + 100 * DAY).province == "35"


def test_a_leaf_under_a_tainted_intermediate_is_renewed_at_once(world: World) -> None:
    home = world.renewing("35")
    own = world.prepared(home)
    own.activate(NOW)
    assert renew_if_due(home, NOW, 0.0) is None  # the old one's leaf is good as long as it is only old
    own.taint(NOW)
    assert renew_if_due(home, NOW, 0.0) is not None
    assert renew_if_due(home, NOW, 0.0) is None


def test_a_revoked_leaf_is_renewed_at_once(world: World) -> None:
    home = world.renewing("35")
    serial = f"{leaf(home).serial_number:x}"
    ProvinceAuthority(home).revoke_leaf(serial, Reason.KEY_COMPROMISE, NOW)
    assert renew_if_due(home, NOW, 0.0) is not None
    assert f"{leaf(home).serial_number:x}" != serial


def test_leaves_end_with_their_intermediate_and_are_not_made_every_minute_near_its_end(world: World) -> None:
    home = world.renewing("35")
    end = ProvinceAuthority(home).issuers[0].certificate.not_valid_after_utc
    assert renew_if_due(home, end - 3 * DAY, 0.0) is not None
    assert leaf(home, end - 3 * DAY).not_valid_after_utc == end
    for hours in range(1, 72):
        assert renew_if_due(home, end - timedelta(hours=hours), 0.0) is None
    with pytest.raises(TrustError):
        renew(home, end)


# --- what ------------------------------------------------------------------------------------------------------------


def test_every_renewal_has_a_new_key(world: World) -> None:
    home = world.renewing("35")
    keys = {leaf(home).public_key().public_numbers()}  # type: ignore[union-attr]
    for _ in range(3):
        renew(home, NOW)
        keys.add(leaf(home).public_key().public_numbers())  # type: ignore[union-attr]
    assert len(keys) == 4


def test_every_leaf_is_in_the_register_and_the_one_before_is_kept(world: World) -> None:
    home = world.renewing("35")
    before = (home.pki / "current.pem").read_bytes()
    first = leaf(home)
    renew(home, NOW)
    serials = [entry.serial for entry in ProvinceAuthority(home).register.issued()]
    assert serials == [f"{first.serial_number:x}", f"{leaf(home).serial_number:x}"]
    assert (home.pki / "previous.pem").read_bytes() == before


def test_a_damaged_present_leaf_is_named_and_a_forced_renewal_repairs_it(world: World) -> None:
    home = world.renewing("35")
    path = home.pki / "current.pem"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ConfigError, match=r"current\.pem"):
        renew_if_due(home, NOW, 0.0)
    renew(home, NOW)
    assert load_credentials(home, NOW).province == "35"


def test_a_present_key_that_others_can_read_is_not_silently_replaced(world: World) -> None:
    home = world.renewing("35")
    (home.pki / "current.pem").chmod(0o644)
    with pytest.raises(TrustError, match="can be read or written by others"):
        renew_if_due(home, NOW, 0.0)


def test_an_intermediates_key_that_others_can_read_or_that_is_gone_is_news_before_a_leaf_is_due(world: World) -> None:
    home = world.renewing("35")
    key = home.ca / "1.key"
    key.chmod(0o644)
    with pytest.raises(TrustError, match="can be read or written by others"):
        renew_if_due(home, NOW, 0.0)
    key.unlink()
    with pytest.raises(ConfigError, match=r"1\.key cannot be read"):
        renew_if_due(home, NOW, 0.0)


def test_a_folder_without_an_intermediate_says_how_to_get_one(world: World) -> None:
    with pytest.raises(ConfigError, match="no intermediate to renew with"):
        renew(world.certified("35"), NOW)


def test_roots_are_taken_over_from_the_membership(world: World) -> None:
    home = world.renewing("35")
    assert not adopt_roots(home, world.authority.roots)
    world.authority.prepare(NOW)
    assert adopt_roots(home, world.authority.roots)
    assert load_credentials(home, NOW).roots_pem == world.authority.root_pem
    with pytest.raises(TrustError, match="not a root"):
        adopt_roots(home, (pem(leaf(home)).decode(),))
    assert not adopt_roots(home, ())


# --- killed or out of space between any two writes -------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A copy of a small federation in which one verb is tried."""

    folder: Path

    @property
    def authority(self) -> ListedAuthority:
        return ListedAuthority(self.folder / "authority")

    @property
    def home(self) -> NodeHome:
        return NodeHome(self.folder / "node-35-fkd-mpu")

    @property
    def own(self) -> ProvinceAuthority:
        return ProvinceAuthority(self.home)


def _roll_root_to(place: Place, stage: int) -> None:
    for verb in ("prepare", "activate", "taint")[:stage]:
        getattr(place.authority, verb)(NOW)


def _roll_intermediate_to(place: Place, stage: int) -> None:
    steps: tuple[Callable[[], Any], ...] = (
        lambda: place.own.prepare(NOW),
        lambda: issued(place),
        lambda: place.own.install(newest(place), NOW),
        lambda: place.own.activate(NOW),
        lambda: place.own.taint(NOW),
        lambda: renew(place.home, NOW),
    )
    for step in steps[:stage]:
        step()


def issued(place: Place) -> bytes:
    return place.authority.issue_intermediate(place.own.prepare(NOW), "35", NOW)


def newest(place: Place) -> bytes:
    return place.authority.intermediates("35", NOW)[-1].encode()


# verb -> (what comes before it, the verb itself)
VERBS: dict[str, tuple[Callable[[Place], Any], Callable[[Place], Any]]] = {
    "root prepare": (lambda place: _roll_root_to(place, 0), lambda place: place.authority.prepare(NOW)),
    "root activate": (lambda place: _roll_root_to(place, 1), lambda place: place.authority.activate(NOW)),
    "root taint": (lambda place: _roll_root_to(place, 2), lambda place: place.authority.taint(NOW)),
    "root revoke": (lambda place: _roll_root_to(place, 3), lambda place: place.authority.revoke(NOW, force=True)),
    "prepare": (lambda place: _roll_intermediate_to(place, 0), lambda place: place.own.prepare(NOW)),
    "issue": (lambda place: _roll_intermediate_to(place, 1), issued),
    "install": (lambda place: _roll_intermediate_to(place, 2), lambda place: place.own.install(newest(place), NOW)),
    "activate": (lambda place: _roll_intermediate_to(place, 3), lambda place: place.own.activate(NOW)),
    "taint": (lambda place: _roll_intermediate_to(place, 4), lambda place: place.own.taint(NOW)),
    "revoke": (
        lambda place: _roll_intermediate_to(place, 6),
        lambda place: place.own.revoke(NOW, Reason.SUPERSEDED),
    ),
    "renew": (lambda place: None, lambda place: renew(place.home, NOW)),
    "revoke leaf": (
        lambda place: None,
        lambda place: place.own.revoke_leaf(place.own.register.issued()[0].serial, Reason.KEY_COMPROMISE, NOW),
    ),
}
MODULES = (authority_module, credentials_module, intermediate_module, stages_module, register_module)


def break_at(patch: pytest.MonkeyPatch, point: int, *, after: bool, stop: Callable[[], None]) -> None:
    """Let the `point`-th write of this process end in `stop`, before or after it reached the disk."""
    count = 0

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def write(*arguments: Any, **named: Any) -> None:
            nonlocal count
            count += 1
            if count == point and not after:
                stop()
            real(*arguments, **named)
            if count == point and after:
                stop()

        return write

    for module in MODULES:
        for name in ("write_atomic", "append_line"):
            if hasattr(module, name):
                patch.setattr(module, name, counted(getattr(module, name)))
    patch.setattr(Path, "unlink", counted(Path.unlink))


def killed(verb: Callable[[Place], Any], place: Place, point: int, *, after: bool) -> bool:
    """Run a verb in a process that dies at its `point`-th write; whether it came that far."""
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                break_at(patch, point, after=after, stop=lambda: os._exit(9))
                verb(place)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def out_of_space(verb: Callable[[Place], Any], place: Place, point: int, *, after: bool) -> bool:
    def full() -> None:
        raise StoreError("no space left on the device")

    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, point, after=after, stop=full)
        try:
            verb(place)
        except StoreError:
            return True
    return False


def check_whole(place: Place) -> None:
    """What must hold after every step, finished or not: the node serves, its peers believe it, nothing is unknown."""
    place.authority.admit(place.authority.members()[0])
    membership = place.authority.publish(NOW)
    shown = load_credentials(place.home, NOW)
    own_leaf = x509.load_pem_x509_certificates(shown.chain_pem)[0]
    if place.authority.issuers[0].stage.value != "revoked":  # then the province would have to roll first
        assert verify_peer(pem(own_leaf), membership, NOW).code == "35"
    assert f"{own_leaf.serial_number:x}" in {entry.serial for entry in place.own.register.issued()}
    registered = {entry.serial for entry in place.authority.register.issued()}
    for issuer in (*place.authority.issuers, *place.own.issuers):
        assert issuer.pem is None or f"{issuer.certificate.serial_number:x}" in registered


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    world = World(folder, ListedAuthority.found(folder / "authority", "fkd-mpu", NOW - 60 * DAY))
    world.renewing("35")
    world.members("35")
    return folder


@pytest.mark.parametrize("way", [killed, out_of_space])
@pytest.mark.parametrize("name", VERBS)
def test_stopped_at_any_write_everything_is_whole_and_the_same_verb_succeeds_when_repeated(
    small: Path, tmp_path: Path, name: str, way: Callable[..., bool]
) -> None:
    before, verb = VERBS[name]
    ready = Place(tmp_path / "ready")
    shutil.copytree(small, ready.folder)
    before(ready)
    clean = Place(tmp_path / "clean")
    shutil.copytree(ready.folder, clean.folder)
    verb(clean)
    expected = [[issuer.stage for issuer in each.issuers] for each in (clean.authority, clean.own)]
    points = 0
    while True:
        points += 1
        stopped = []
        for after in (False, True):
            place = Place(tmp_path / f"{points}-{after}")
            shutil.copytree(ready.folder, place.folder)
            stopped.append(way(verb, place, points, after=after))
            check_whole(place)
            verb(place)
            check_whole(place)
            assert [[issuer.stage for issuer in each.issuers] for each in (place.authority, place.own)] == expected
            shutil.rmtree(place.folder)
        if not any(stopped):
            break
    assert points > 1
