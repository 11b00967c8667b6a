"""The authority signs what the federation's profile allows, and nothing it could not account for later."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from node.errors import ConfigError, StoreError, TrustError
from node.pki import authority as authority_module
from node.pki.authority import Authority
from node.pki.identity import Identity
from node.pki.profile import intermediate_builder
from node.pki.register import Register
from node.pki.trust import verify_intermediate
from tests.pki_world import DAY, NOW, World, found_world, request_for  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path

EAST_JAVA = Identity("fkd-mpu", "35")


def certify(world: World, province: str = "35") -> bytes:
    return world.authority.issue_intermediate(request_for(Identity("fkd-mpu", province)), province, NOW)


# --- founding --------------------------------------------------------------------------------------------------------


def test_every_secret_of_a_new_authority_is_private(world: World) -> None:
    public = {"root.pem"}
    files = [path for path in world.authority.folder.rglob("*") if path.is_file()]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    assert {name for name, mode in modes.items() if mode == 0o644} == public
    assert {mode for name, mode in modes.items() if name not in public} == {0o600}
    assert stat.S_IMODE((world.authority.folder / "roots").stat().st_mode) == 0o700
    assert stat.S_IMODE(world.authority.folder.stat().st_mode) == 0o700


def test_an_authority_is_never_made_anew_over_an_old_one(world: World) -> None:
    before = {path: path.read_bytes() for path in world.authority.folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="holds an authority already"):
        Authority.found(world.authority.folder, "fkd-mpu", NOW)
    assert {path: path.read_bytes() for path in world.authority.folder.rglob("*") if path.is_file()} == before


def test_a_folder_with_somebody_elses_files_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="holds files already"):
        Authority.found(tmp_path, "fkd-mpu", NOW)


def test_an_empty_folder_may_become_the_authority(tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    assert Authority.found(tmp_path / "usb", "fkd-mpu", NOW).federation == "fkd-mpu"


def test_a_founding_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: Any) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(Register, "enter", full_disk)  # the root's key is written by then
    with pytest.raises(StoreError):
        Authority.found(tmp_path / "authority", "fkd-mpu", NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_folder_can_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be created"):
        Authority.found(tmp_path / "file" / "authority", "fkd-mpu", NOW)


@pytest.mark.parametrize("name", ["", "FKD-MPU", "fkd mpu", "fkd_mpu", "-fkd", "fkd\n", "a/b", "x" * 61])
def test_a_name_that_does_not_fit_a_certificate_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        Authority.found(tmp_path / "authority", name, NOW)


def test_the_longest_name_still_gives_sound_certificates(tmp_path: Path) -> None:
    name = "x" * 60
    authority = Authority.found(tmp_path / "authority", name, NOW)
    pem = authority.issue_intermediate(request_for(Identity(name, "35")), "35", NOW)
    made = x509.load_pem_x509_certificate(pem)
    assert verify_intermediate(made, Identity(name, "35"), [authority.root]) == authority.root


def test_a_folder_without_an_authority_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no authority"):
        Authority(tmp_path)


# --- issuing ---------------------------------------------------------------------------------------------------------


def test_a_certificate_carries_the_requests_key_and_the_asked_life(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = world.authority.issue_intermediate(request_for(EAST_JAVA, key=key), "35", NOW, days=7)
    leaf = x509.load_pem_x509_certificate(pem)
    assert leaf.public_key() == key.public_key()
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (NOW - timedelta(minutes=5), NOW + 7 * DAY)


def test_an_authority_founded_this_minute_backdates_no_further_than_its_root(tmp_path: Path) -> None:
    authority = Authority.found(tmp_path / "authority", "fkd-mpu", NOW)
    pem = authority.issue_intermediate(request_for(EAST_JAVA), "35", NOW - timedelta(minutes=3))
    assert x509.load_pem_x509_certificate(pem).not_valid_before_utc == authority.root.not_valid_before_utc


def test_another_provinces_request_is_refused(world: World) -> None:
    with pytest.raises(TrustError, match=r"the request is of province 33 of fkd-mpu, and .* of province 35"):
        world.authority.issue_intermediate(request_for(Identity("fkd-mpu", "33")), "35", NOW)


def test_another_federations_request_is_refused(world: World) -> None:
    with pytest.raises(TrustError, match="province 35 of fkd-other"):
        world.authority.issue_intermediate(request_for(Identity("fkd-other", "35")), "35", NOW)


@pytest.mark.parametrize(
    ("oddities", "why"),
    [
        ({"key": ec.generate_private_key(ec.SECP224R1())}, "P-256"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "P-256"),
        ({"key": rsa.generate_private_key(65537, 1024)}, "P-256"),
        ({"key": rsa.generate_private_key(65537, 4096)}, "P-256"),
        ({"names": []}, "names no province"),
        ({"names": [x509.DNSName("p35.fkd-mpu")]}, "0 URI names"),
        ({"names": [x509.UniformResourceIdentifier(EAST_JAVA.uri)]}, "and no other"),
        (
            {
                "names": [
                    *EAST_JAVA.subject_alternative_name,
                    x509.UniformResourceIdentifier("spiffe://fkd-mpu/province/33"),
                ]
            },
            "2 URI names",
        ),
        ({"names": [*EAST_JAVA.subject_alternative_name, x509.DNSName("p33.fkd-mpu")]}, "and no other"),
        ({"extra": [x509.BasicConstraints(ca=True, path_length=None)]}, "more than its names"),
    ],
)
def test_a_request_that_asks_for_too_much_or_with_a_weak_key_is_refused(
    world: World, oddities: dict[str, Any], why: str
) -> None:
    with pytest.raises(TrustError, match=why):
        world.authority.issue_intermediate(request_for(EAST_JAVA, **oddities), "35", NOW)
    assert len(world.authority.register.issued()) == 1  # the root alone: nothing was registered, nothing signed


def test_a_request_whose_sender_does_not_hold_the_key_is_refused(world: World) -> None:
    der = x509.load_pem_x509_csr(request_for(EAST_JAVA)).public_bytes(Encoding.DER)
    for_33 = x509.load_pem_x509_csr(request_for(Identity("fkd-mpu", "33"))).public_bytes(Encoding.DER)
    edited = for_33.replace(b"province/33", b"province/35").replace(b"p33.", b"p35.")
    assert len(edited) in range(len(der) - 2, len(der) + 3)
    with pytest.raises(TrustError, match="signature is wrong"):
        world.authority.issue_intermediate(x509.load_der_x509_csr(edited).public_bytes(Encoding.PEM), "35", NOW)


def test_an_ed25519_request_is_refused_like_any_other_kind(world: World) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(EAST_JAVA.subject_alternative_name, critical=False).sign(key, None)
    with pytest.raises(TrustError, match="P-256"):
        world.authority.issue_intermediate(request.public_bytes(Encoding.PEM), "35", NOW)


@pytest.mark.parametrize("size", [0, 40, 200])
def test_half_a_request_is_one_clear_error(world: World, size: int) -> None:
    with pytest.raises(ConfigError, match="not a whole PEM certificate request"):
        world.authority.issue_intermediate(request_for(EAST_JAVA)[:size], "35", NOW)


def test_a_key_is_certified_once_and_never_again(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first = world.authority.issue_intermediate(request_for(EAST_JAVA, key=key), "35", NOW)
    again = world.authority.issue_intermediate(request_for(EAST_JAVA, key=key), "35", NOW + DAY, days=90)
    assert again == first  # the same certificate, and no second one
    with pytest.raises(TrustError, match="in the register already"):  # and not for another province either
        world.authority.issue_intermediate(request_for(Identity("fkd-mpu", "33"), key=key), "33", NOW)


def test_the_roots_own_key_is_not_certified_for_a_node(world: World) -> None:
    with pytest.raises(TrustError, match="in the register already"):
        world.authority.issue_intermediate(request_for(EAST_JAVA, key=world.root_key), "35", NOW)


def test_a_clock_before_the_roots_beginning_signs_nothing(world: World) -> None:
    with pytest.raises(TrustError, match="clock is before the issuer's beginning"):
        world.authority.issue_intermediate(request_for(EAST_JAVA), "35", NOW - 61 * DAY)
    assert len(world.authority.register.issued()) == 1


def test_no_intermediate_outlives_the_root(world: World) -> None:
    end = world.authority.root.not_valid_after_utc
    assert world.authority.issue_intermediate(request_for(EAST_JAVA), "35", end - 30 * DAY, days=30)
    with pytest.raises(TrustError, match="would outlive its issuer"):
        world.authority.issue_intermediate(request_for(EAST_JAVA), "35", end - 30 * DAY + timedelta(seconds=1), days=30)


@pytest.mark.parametrize("days", [-1, 0, 732])
def test_a_life_outside_the_limits_is_refused(world: World, days: int) -> None:
    with pytest.raises(ConfigError, match="1 to 731 days"):
        world.authority.issue_intermediate(request_for(EAST_JAVA), "35", NOW, days=days)


@pytest.mark.parametrize("province", ["", "5", "035", "3x", "35\n", "../35"])
def test_what_is_no_province_code_is_refused(world: World, province: str) -> None:
    with pytest.raises(ConfigError, match="not a province's code"):
        world.authority.issue_intermediate(request_for(EAST_JAVA), province, NOW)


# --- accounting ------------------------------------------------------------------------------------------------------


def test_a_certificate_is_in_the_register_before_it_is_signed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class PowerCut(BaseException):
        pass

    def cut(*args: Any) -> None:
        raise PowerCut

    request = request_for(EAST_JAVA)
    monkeypatch.setattr(authority_module, "intermediate_builder", cut)
    with pytest.raises(PowerCut):
        world.authority.issue_intermediate(request, "35", NOW)
    assert [(issued.kind, issued.province) for issued in world.authority.register.issued()] == [
        ("root", None),
        ("intermediate", "35"),
    ]
    monkeypatch.undo()
    made = x509.load_pem_x509_certificate(world.authority.issue_intermediate(request, "35", NOW))
    assert f"{made.serial_number:x}" == world.authority.register.issued()[-1].serial  # the one that was registered
    assert len(world.authority.register.issued()) == 2


def test_the_register_holds_serial_and_life_of_every_certificate(world: World) -> None:
    leaf = x509.load_pem_x509_certificate(certify(world))
    entry = world.authority.register.issued()[-1]
    assert int(entry.serial, 16) == leaf.serial_number
    assert (entry.not_before, entry.not_after) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def test_a_mistake_in_what_was_signed_is_held_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*args: Any) -> x509.CertificateBuilder:
        return intermediate_builder(*args).add_extension(x509.OCSPNoCheck(), critical=False)

    monkeypatch.setattr(authority_module, "intermediate_builder", careless)
    with pytest.raises(TrustError, match="other extensions"):
        world.authority.issue_intermediate(request_for(EAST_JAVA), "35", NOW)


def test_a_register_line_torn_by_a_crash_is_as_if_it_had_never_been(world: World) -> None:
    path = world.authority.folder / "issued.jsonl"
    with path.open("ab") as stream:
        stream.write(b'{"kind":"leaf","ser')
    assert len(world.authority.register.issued()) == 1
    certify(world)
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["root", "intermediate"]


def test_a_damaged_register_stops_the_authority(world: World) -> None:
    path = world.authority.folder / "issued.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kind"', b'"kinb"'))
    with pytest.raises(StoreError, match="damaged"):
        certify(world)


def test_two_admins_at_once_lose_no_line_of_the_register(world: World) -> None:
    def issue(code: int) -> bytes:
        return Authority(world.authority.folder).issue_intermediate(
            request_for(Identity("fkd-mpu", str(code))), str(code), NOW
        )

    with ThreadPoolExecutor(4) as pool:
        certificates = list(pool.map(issue, range(31, 43)))
    serials = {f"{x509.load_pem_x509_certificate(pem).serial_number:x}" for pem in certificates}
    assert {issued.serial for issued in world.authority.register.issued() if issued.kind == "intermediate"} == serials
    assert len(serials) == 12


def test_two_admins_with_the_same_request_at_once_give_one_certificate(world: World) -> None:
    request, start = request_for(EAST_JAVA), Barrier(8)

    def issue(_: int) -> bytes:
        start.wait(10)
        return Authority(world.authority.folder).issue_intermediate(request, "35", NOW)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(issue, range(8)))) == 1
    assert len(world.authority.register.issued()) == 2  # the root, and one intermediate


# --- the folder's keys -----------------------------------------------------------------------------------------------


def test_a_root_key_that_others_can_read_signs_nothing(world: World) -> None:
    (world.authority.folder / "roots" / "1.key").chmod(0o640)
    with pytest.raises(TrustError, match="can be read or written by others"):
        certify(world)


def test_a_key_that_is_not_the_roots_signs_nothing(world: World, tmp_path: Path) -> None:
    other = Authority.found(tmp_path / "other", "fkd-mpu", NOW)
    (world.authority.folder / "roots" / "1.key").write_bytes((other.folder / "roots" / "1.key").read_bytes())
    with pytest.raises(TrustError, match="is not the key of"):
        certify(world)


def test_half_a_key_is_one_clear_error(world: World) -> None:
    path = world.authority.folder / "roots" / "1.key"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="not a whole private key"):
        certify(world)
