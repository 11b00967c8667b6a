"""A node's own certificate: what it takes in, what it loads, and what a crash in between leaves."""

from __future__ import annotations

import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.errors import CertificateExpiredError, ConfigError, NodeError, TrustError
from node.files import write_atomic
from node.home import NodeHome
from node.pki import credentials as credentials_module
from node.pki.credentials import (
    CertificateState,
    certificate_status,
    install_certificate,
    load_credentials,
    request_certificate,
)
from node.pki.identity import Identity
from tests.listing import ListedAuthority
from tests.pki_world import DAY, NOW, World, found_world, request_for  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path


def foreign(tmp_path: Path) -> World:
    """Another federation of the same name."""
    (tmp_path / "other").mkdir()
    return World(tmp_path / "other", ListedAuthority.found(tmp_path / "other" / "authority", "fkd-mpu", NOW - 60 * DAY))


def contents(home: NodeHome) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.pki.iterdir()}


# --- request ---------------------------------------------------------------------------------------------------------


def test_the_key_stays_private_in_the_folder_and_out_of_the_request(world: World) -> None:
    home = world.home("35")
    request = request_certificate(home)
    assert b"PRIVATE" not in request
    assert stat.S_IMODE((home.pki / "next.pem").stat().st_mode) == 0o600
    key = load_pem_private_key((home.pki / "next.pem").read_bytes(), password=None)
    assert x509.load_pem_x509_csr(request).public_key() == key.public_key()


def test_every_request_has_a_new_key(world: World) -> None:
    home = world.home("35")
    first = x509.load_pem_x509_csr(request_certificate(home)).public_key()
    assert x509.load_pem_x509_csr(request_certificate(home, discard=True)).public_key() != first


def test_a_key_that_waits_is_not_thrown_away_unasked(world: World) -> None:
    home = world.home("35")
    request_certificate(home)
    before = contents(home)
    with pytest.raises(ConfigError, match="still waits for its certificate"):
        request_certificate(home)
    assert contents(home) == before


def test_a_request_without_a_node_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml"):
        request_certificate(NodeHome(tmp_path))


# --- install ---------------------------------------------------------------------------------------------------------


def test_an_installed_certificate_is_what_the_node_shows(world: World) -> None:
    loaded = load_credentials(world.certified("35"), NOW)
    assert (loaded.federation, loaded.province) == ("fkd-mpu", "35")
    assert loaded.not_after == NOW + 30 * DAY
    assert loaded.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert loaded.chain_pem.startswith(b"-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in repr(loaded)


def test_a_renewed_certificate_replaces_and_keeps_the_one_before(world: World) -> None:
    home = world.certified("35")
    before = (home.pki / "current.pem").read_bytes()
    renewed = world.issue(request_certificate(home), "35", NOW + DAY)
    assert load_credentials(home, NOW).not_after == NOW + 30 * DAY  # until it is installed, the old one serves
    install_certificate(home, renewed, NOW + DAY)
    assert load_credentials(home, NOW + DAY).not_after == NOW + 31 * DAY
    assert (home.pki / "previous.pem").read_bytes() == before
    assert not (home.pki / "next.pem").exists()


def test_installing_twice_changes_nothing(world: World) -> None:
    home = world.home("35")
    leaf = world.issue(request_certificate(home), "35", NOW)
    install_certificate(home, leaf, NOW, roots_pem=world.authority.root_pem)
    before = contents(home)
    install_certificate(home, leaf, NOW)
    assert contents(home) == before


def test_a_repeated_install_does_not_eat_the_key_of_a_newer_request(world: World) -> None:
    home = world.home("35")
    leaf = world.issue(request_certificate(home), "35", NOW)
    install_certificate(home, leaf, NOW, roots_pem=world.authority.root_pem)
    request_certificate(home)
    install_certificate(home, leaf, NOW)
    assert (home.pki / "next.pem").exists()


def refused(home: NodeHome, leaf: bytes, error: type[NodeError], why: str, roots: bytes | None = None) -> None:
    before = contents(home)
    with pytest.raises(error, match=why):
        install_certificate(home, leaf, NOW, roots_pem=roots)
    assert contents(home) == before


def test_a_certificate_for_another_key_is_refused(world: World) -> None:
    home = world.certified("35")
    request_certificate(home)
    refused(home, world.chain("35"), TrustError, "not made for the key that waits")


def test_another_provinces_certificate_is_refused(world: World) -> None:
    home = world.certified("35")
    refused(home, world.chain("33"), TrustError, "of province 33 of fkd-mpu, and this node is province 35")


def test_a_certificate_of_a_foreign_root_is_refused(world: World, tmp_path: Path) -> None:
    home = world.certified("35")
    other = foreign(tmp_path)
    leaf = other.issue(request_certificate(home), "35", NOW)
    refused(home, leaf, TrustError, "not issued under this federation's root")
    refused(home, leaf, TrustError, "not the root this node trusts", roots=other.authority.root_pem)


def test_another_root_is_trusted_only_when_told_so(world: World, tmp_path: Path) -> None:
    home = world.certified("35")
    other = foreign(tmp_path)
    leaf = other.issue(request_certificate(home), "35", NOW)
    install_certificate(home, leaf, NOW, roots_pem=other.authority.root_pem, replace_roots=True)
    assert load_credentials(home, NOW).roots_pem == other.authority.root_pem


def test_an_expired_certificate_is_refused(world: World) -> None:
    home = world.certified("35")
    leaf = world.issue(request_certificate(home), "35", NOW - 10 * DAY + timedelta(hours=1), days=9)
    refused(home, leaf, CertificateExpiredError, "expired at")


def test_the_first_install_needs_a_root(world: World) -> None:
    home = world.home("35")
    leaf = world.issue(request_certificate(home), "35", NOW)
    refused(home, leaf, ConfigError, "has no root yet")


def test_half_a_certificate_is_refused(world: World) -> None:
    home = world.certified("35")
    leaf = world.issue(request_certificate(home), "35", NOW)
    for size in (0, 50, len(leaf) // 2):
        refused(home, leaf[:size], ConfigError, "not a whole PEM certificate")


def test_half_a_root_is_refused(world: World) -> None:
    home = world.home("35")
    leaf = world.issue(request_certificate(home), "35", NOW)
    refused(home, leaf, ConfigError, "root file is not a whole PEM certificate", roots=world.authority.root_pem[:99])


@pytest.mark.parametrize("is_written", [False, True], ids=["failed before the write", "failed after the write"])
@pytest.mark.parametrize("point", range(3))
def test_killed_between_any_two_writes_the_node_has_a_whole_certificate_and_a_second_try_succeeds(
    world: World, monkeypatch: pytest.MonkeyPatch, point: int, is_written: bool
) -> None:
    class Killed(BaseException):
        pass

    home = world.certified("35")
    renewed = world.issue(request_certificate(home), "35", NOW + DAY)
    writes: list[str] = []

    def write(path: Path, data: bytes, *, mode: int = 0o600, replace: bool = False) -> None:
        writes.append(path.name)
        if len(writes) <= point or is_written:
            write_atomic(path, data, mode=mode, replace=replace)
        if len(writes) > point:
            raise Killed

    monkeypatch.setattr(credentials_module, "write_atomic", write)
    with pytest.raises(Killed):
        install_certificate(home, renewed, NOW + DAY)
    assert writes == ["root.pem", "previous.pem", "current.pem"][: point + 1]
    monkeypatch.undo()

    assert load_credentials(home, NOW + DAY).province == "35"
    install_certificate(home, renewed, NOW + DAY)
    assert load_credentials(home, NOW + DAY).not_after == NOW + 31 * DAY
    assert sorted(contents(home)) == ["current.pem", "previous.pem", "root.pem"]
    assert contents(home)["previous.pem"] != contents(home)["current.pem"]


# --- load ------------------------------------------------------------------------------------------------------------


def test_a_node_without_a_certificate_says_how_to_get_one(world: World) -> None:
    with pytest.raises(ConfigError, match=r"current\.pem cannot be read") as caught:
        load_credentials(world.home("35"), NOW)
    assert "pulang cert renew" in (caught.value.hint or "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(world: World, mode: int) -> None:
    home = world.certified("35")
    (home.pki / "current.pem").chmod(mode)
    with pytest.raises(TrustError, match="can be read or written by others"):
        load_credentials(home, NOW)


def test_an_expired_certificate_is_named_as_such(world: World) -> None:
    home = world.certified("35")
    with pytest.raises(CertificateExpiredError, match="expired at 2026-07-01 08:00:00 UTC"):
        load_credentials(home, NOW + 30 * DAY)


def test_a_clock_ten_minutes_slow_is_named_as_such(world: World) -> None:
    with pytest.raises(CertificateExpiredError, match="not valid before") as caught:
        load_credentials(world.certified("35"), NOW - timedelta(minutes=10))
    assert "clock" in (caught.value.hint or "")


def test_a_folder_copied_to_another_province_does_not_start(world: World) -> None:
    home, other = world.certified("35"), world.certified("33")
    (home.pki / "current.pem").write_bytes((other.pki / "current.pem").read_bytes())
    with pytest.raises(TrustError, match="of province 33 of fkd-mpu, and this node is province 35"):
        load_credentials(home, NOW)


def test_a_key_beside_another_keys_certificate_is_refused(world: World) -> None:
    home = world.certified("35")
    path = home.pki / "current.pem"
    key = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")[0]
    path.write_bytes(key + world.chain("35"))
    with pytest.raises(TrustError, match="do not belong together"):
        load_credentials(home, NOW)


@pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.6, 0.97])
def test_a_half_written_slot_is_one_clear_error(world: World, share: float) -> None:
    home = world.certified("35")
    path = home.pki / "current.pem"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ConfigError, match=r"current\.pem") as caught:
        load_credentials(home, NOW)
    assert "\n" not in str(caught.value)


def test_a_replaced_root_file_is_noticed(world: World, tmp_path: Path) -> None:
    home = world.certified("35")
    (home.pki / "root.pem").write_bytes(foreign(tmp_path).authority.root_pem)
    with pytest.raises(TrustError, match="not issued under this federation's root"):
        load_credentials(home, NOW)


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (NOW - timedelta(minutes=6), CertificateState.NOT_YET_VALID),
        (NOW, CertificateState.VALID),
        (NOW + 19 * DAY, CertificateState.VALID),
        (NOW + 21 * DAY, CertificateState.RENEW),
        (NOW + 30 * DAY - timedelta(seconds=1), CertificateState.RENEW),
        (NOW + 30 * DAY, CertificateState.EXPIRED),
    ],
)
def test_the_status_turns_to_renew_when_less_than_a_third_is_left(
    world: World, now: object, state: CertificateState
) -> None:
    assert certificate_status(world.certified("35"), now).state is state  # type: ignore[arg-type]


def test_the_status_of_a_new_node_is_absent_and_then_pending(world: World) -> None:
    home = world.home("35")
    assert certificate_status(home, NOW).state is CertificateState.ABSENT
    assert not certificate_status(home, NOW).is_pending
    request_certificate(home)
    assert certificate_status(home, NOW).is_pending


def test_a_request_names_its_own_province_and_nothing_else(world: World) -> None:
    ours = x509.load_pem_x509_csr(request_certificate(world.home("35")))
    plain = x509.load_pem_x509_csr(request_for(Identity("fkd-mpu", "35")))
    assert list(ours.extensions) == list(plain.extensions)
    assert not list(ours.subject)
