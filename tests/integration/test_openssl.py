"""An outsider's opinion: the openssl program on what we make, and what it makes on us."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from node.errors import ConfigError, TrustError
from node.pki.authority import Authority
from node.pki.credentials import certificate_status, load_credentials, request_certificate
from node.pki.membership import Member
from node.pki.trust import verify_peer
from tests.pki_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
NOW = datetime.now(UTC)  # openssl has only the real clock


def openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, Authority.found(tmp_path / "authority", "fkd-mpu", NOW))


@pytest.fixture
def leaf(world: World) -> Path:
    path = world.folder / "35.crt"
    path.write_bytes(world.leaf("35", now=NOW))
    return path


# --- what we make ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["sslclient", "sslserver"])
def test_openssl_verifies_our_chain_strictly_for_both_ends_of_tls(world: World, leaf: Path, purpose: str) -> None:
    root = world.authority.folder / "root.pem"
    seen = openssl(
        "verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", "p35.fkd-mpu", "-CAfile", root, leaf
    )
    assert (seen.returncode, seen.stdout.strip()) == (0, f"{leaf}: OK"), seen.stderr


def test_openssl_refuses_our_leaf_under_another_authoritys_root(leaf: Path, tmp_path: Path) -> None:
    other = Authority.found(tmp_path / "other", "fkd-mpu", NOW)
    assert openssl("verify", "-CAfile", other.folder / "root.pem", leaf).returncode != 0


def test_openssl_refuses_our_leaf_as_an_issuer(world: World) -> None:
    slot, inner = world.certified("33", now=NOW).pki / "current.pem", world.folder / "inner.crt"
    request = world.folder / "inner.csr"
    request.write_bytes(by_hand(world, "inner", "DNS:inner"))
    assert openssl("x509", "-req", "-in", request, "-CA", slot, "-CAkey", slot, "-out", inner).returncode == 0
    seen = openssl("verify", "-CAfile", world.authority.folder / "root.pem", "-untrusted", slot, inner)
    assert seen.returncode != 0
    assert "invalid CA certificate" in seen.stdout + seen.stderr


def test_openssl_reads_the_profile_we_mean(leaf: Path) -> None:
    text = openssl("x509", "-in", leaf, "-noout", "-text").stdout
    squeezed = " ".join(text.split())
    for part in (
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "ASN1 OID: prime256v1",
        "X509v3 Basic Constraints: critical CA:FALSE",
        "X509v3 Key Usage: critical Digital Signature X509v3",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "URI:spiffe://fkd-mpu/province/35, DNS:p35.fkd-mpu X509v3",
        "X509v3 Subject Key Identifier:",
        "X509v3 Authority Key Identifier:",
    ):
        assert part in squeezed, part


def test_openssl_reads_the_root_as_a_root_of_ten_years(world: World) -> None:
    root = world.authority.folder / "root.pem"
    squeezed = " ".join(openssl("x509", "-in", root, "-noout", "-text").stdout.split())
    assert "X509v3 Basic Constraints: critical CA:TRUE, pathlen:1" in squeezed
    assert "X509v3 Key Usage: critical Certificate Sign, CRL Sign X509v3" in squeezed
    nine_years = int(timedelta(days=9 * 365).total_seconds())
    assert openssl("x509", "-in", root, "-noout", "-checkend", nine_years).returncode == 0
    assert openssl("x509", "-in", root, "-noout", "-checkend", nine_years * 2).returncode == 1


def test_openssl_verifies_our_request(world: World) -> None:
    request = world.folder / "request.csr"
    request.write_bytes(request_certificate(world.home("35")))
    seen = openssl("req", "-in", request, "-noout", "-verify", "-text")
    assert seen.returncode == 0
    assert "verify OK" in seen.stdout + seen.stderr
    assert "URI:spiffe://fkd-mpu/province/35, DNS:p35.fkd-mpu" in seen.stdout


def test_openssl_reads_our_fingerprints_and_slots(world: World) -> None:
    home = world.certified("35", now=NOW)
    status = certificate_status(home, NOW)
    seen = openssl("x509", "-in", home.pki / "root.pem", "-noout", "-fingerprint", "-sha256").stdout
    assert seen.strip().partition("=")[2].replace(":", "").lower() == status.root_fingerprints[0]
    assert openssl("pkey", "-in", home.pki / "current.pem", "-noout", "-check").returncode == 0
    serial = openssl("x509", "-in", home.pki / "current.pem", "-noout", "-serial").stdout
    assert int(serial.strip().partition("=")[2], 16) == status.serial


# --- what it makes ---------------------------------------------------------------------------------------------------


P256 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def by_hand(world: World, name: str, san: str, *, algorithm: tuple[str, ...] = P256) -> bytes:
    request = world.folder / f"{name}.csr"
    made = openssl(
        "req", "-new", "-newkey", *algorithm, "-nodes", "-subj", "/CN=by hand", "-addext", f"subjectAltName={san}",
        "-keyout", world.folder / f"{name}.key", "-out", request,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return request.read_bytes()


def test_a_request_made_with_openssl_is_issued_if_it_asks_for_the_right_names(world: World) -> None:
    request = by_hand(world, "good", "URI:spiffe://fkd-mpu/province/35,DNS:p35.fkd-mpu")
    issued = x509.load_pem_x509_certificate(world.authority.issue(request, "35", NOW))
    assert issued.subject.rfc4514_string() == "CN=p35.fkd-mpu,O=fkd-mpu"  # ours, not "by hand"


def test_an_rsa_request_made_with_openssl_is_refused(world: World) -> None:
    request = by_hand(world, "rsa", "URI:spiffe://fkd-mpu/province/35,DNS:p35.fkd-mpu", algorithm=("rsa:2048",))
    with pytest.raises(TrustError, match="P-256"):
        world.authority.issue(request, "35", NOW)


def test_a_request_in_binary_form_is_one_clear_error(world: World) -> None:
    by_hand(world, "good", "URI:spiffe://fkd-mpu/province/35,DNS:p35.fkd-mpu")
    der = world.folder / "good.der"
    openssl("req", "-in", world.folder / "good.csr", "-outform", "DER", "-out", der)
    with pytest.raises(ConfigError, match="not a whole PEM certificate request"):
        world.authority.issue(der.read_bytes(), "35", NOW)


def test_a_certificate_openssl_signed_with_the_real_root_key_is_still_judged_by_profile(world: World) -> None:
    by_hand(world, "odd", "URI:spiffe://fkd-mpu/province/35,DNS:p35.fkd-mpu")
    folder, out = world.authority.folder, world.folder / "odd.crt"
    openssl(
        "x509", "-req", "-in", world.folder / "odd.csr", "-copy_extensions", "copyall", "-days", 5,
        "-CA", folder / "root.pem", "-CAkey", folder / "root.key", "-out", out,
    )  # fmt: skip
    assert openssl("verify", "-CAfile", folder / "root.pem", out).returncode == 0
    with pytest.raises(TrustError, match="other extensions than the federation's profile"):
        verify_peer(out.read_bytes(), world.authority.root_pem, world.members("35", now=NOW), NOW)


# --- a handshake -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(world: World) -> Iterator[tuple[int, list[bytes | None]]]:
    """A TLS 1.3 server of Python's ssl module with province 35's credentials; collects its visitors' certificates."""
    home = world.certified("35", now=NOW)
    visitors: list[bytes | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(home.pki / "current.pem")
    context.load_verify_locations(home.pki / "root.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as tls:
                    visitors.append(tls.getpeercert(binary_form=True))
                    tls.send(b"ok")
            except OSError:
                visitors.append(None)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], visitors
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def visit(world: World, port: int, slot: Path) -> subprocess.CompletedProcess[str]:
    return openssl(
        "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-cert", slot, "-key", slot, "-ign_eof",
        "-CAfile", world.authority.folder / "root.pem", "-verify_return_error", "-verify_hostname", "p35.fkd-mpu",
    )  # fmt: skip


def test_openssl_shakes_hands_with_our_credentials_on_both_ends(
    world: World, server: tuple[int, list[bytes | None]]
) -> None:
    port, visitors = server
    home = world.certified("33", now=NOW)
    seen = visit(world, port, home.pki / "current.pem")
    assert "Verify return code: 0 (ok)" in seen.stdout
    assert visitors[0] is not None
    shown = x509.load_der_x509_certificate(visitors[0])
    assert shown == x509.load_pem_x509_certificate(load_credentials(home, NOW).chain_pem)
    world.authority.admit(Member("33", "Jawa Tengah", "127.0.0.1:7033"))
    membership = world.authority.publish(NOW)[0]
    assert verify_peer(load_credentials(home, NOW).chain_pem, world.authority.root_pem, membership, NOW).code == "33"


def test_openssl_is_turned_away_with_a_foreign_certificate(
    world: World, server: tuple[int, list[bytes | None]], tmp_path: Path
) -> None:
    port, visitors = server
    (tmp_path / "foreign").mkdir()
    foreign = World(tmp_path / "foreign", Authority.found(tmp_path / "foreign" / "authority", "fkd-mpu", NOW))
    visit(world, port, foreign.certified("33", now=NOW).pki / "current.pem")
    assert visitors == [None]
