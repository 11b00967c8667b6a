"""An outsider's opinion: the openssl program on what we make, and what it makes on us."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from node.errors import ConfigError, TrustError
from node.pki.credentials import (
    certificate_status,
    install_certificate,
    load_credentials,
    request_certificate,
)
from node.pki.identity import Identity
from node.pki.keys import new_key, private_pem
from node.pki.membership import Member
from node.pki.request import request_name
from node.pki.stages import IssuerFolder
from node.pki.trust import verify_peer
from tests.listing import ListedAuthority
from tests.pki_world import DAY, World, make_certificate, pem

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    return World(tmp_path, ListedAuthority.found(tmp_path / "authority", "fkd-mpu", NOW), began=NOW)


@pytest.fixture
def leaf(world: World) -> Path:
    path = world.folder / "35.crt"
    path.write_bytes(world.leaf("35", now=NOW))
    (world.folder / "35-ca.crt").write_bytes(pem(world.intermediate("35")[0]))
    return path


# --- what we make ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["sslclient", "sslserver"])
def test_openssl_verifies_our_chain_strictly_for_both_ends_of_tls(world: World, leaf: Path, purpose: str) -> None:
    root = world.authority.folder / "root.pem"
    seen = openssl(
        "verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", "p35.fkd-mpu", "-CAfile", root,
        "-untrusted", world.folder / "35-ca.crt", leaf,
    )  # fmt: skip
    assert (seen.returncode, seen.stdout.strip()) == (0, f"{leaf}: OK"), seen.stderr


def test_openssl_refuses_our_leaf_without_its_intermediate_and_under_a_foreign_root(
    world: World, leaf: Path, tmp_path: Path
) -> None:
    root, between = world.authority.folder / "root.pem", world.folder / "35-ca.crt"
    other = ListedAuthority.found(tmp_path / "other", "fkd-mpu", NOW)
    assert openssl("verify", "-CAfile", root, "-untrusted", between, leaf).returncode == 0
    assert openssl("verify", "-CAfile", root, leaf).returncode != 0
    assert openssl("verify", "-CAfile", other.folder / "root.pem", "-untrusted", between, leaf).returncode != 0


def test_openssl_enforces_the_name_constraint_of_a_provinces_intermediate(world: World) -> None:
    root, between, forged = world.authority.folder / "root.pem", world.folder / "35-ca.crt", world.folder / "33.crt"
    intermediate, key = world.intermediate("35")
    between.write_bytes(pem(intermediate))
    names = list(Identity("fkd-mpu", "33").subject_alternative_name)
    forged.write_bytes(pem(make_certificate(intermediate, key, names=names, not_before=NOW, not_after=NOW + DAY)))
    seen = openssl("verify", "-CAfile", root, "-untrusted", between, forged)
    assert seen.returncode != 0
    assert "permitted subtree violation" in seen.stdout + seen.stderr


def test_openssl_enforces_that_a_provinces_intermediate_issues_no_further_authority(world: World) -> None:
    root, between, further = world.authority.folder / "root.pem", world.folder / "35-ca.crt", world.folder / "more.crt"
    intermediate, key = world.intermediate("35")
    inner_key = new_key()
    inner = make_certificate(intermediate, key, key=inner_key, is_ca=True, not_before=NOW, not_after=NOW + DAY)
    between.write_bytes(pem(intermediate, inner))
    further.write_bytes(pem(make_certificate(inner, inner_key, not_before=NOW, not_after=NOW + DAY)))
    seen = openssl("verify", "-CAfile", root, "-untrusted", between, further)
    assert "path length constraint exceeded" in seen.stdout + seen.stderr


def test_openssl_verifies_old_and_new_chains_with_the_bundle_of_a_root_roll(world: World, leaf: Path) -> None:
    root, between = world.authority.folder / "root.pem", world.folder / "35-ca.crt"
    world.authority.prepare(NOW)
    world.authority.activate(NOW)
    home = world.renewing("35", NOW)
    new = home.pki / "current.pem"  # leaf and intermediate under the new root
    assert openssl("verify", "-CAfile", root, "-untrusted", between, leaf).returncode == 0
    assert openssl("verify", "-CAfile", root, "-untrusted", new, new).returncode == 0
    world.authority.taint(NOW)
    world.authority.revoke(NOW, force=True)
    assert openssl("verify", "-CAfile", root, "-untrusted", between, leaf).returncode != 0
    assert openssl("verify", "-CAfile", root, "-untrusted", new, new).returncode == 0


def lint(path: Path) -> list[str]:
    """What pkilint finds wrong, by its command: finding and text, a line each."""
    command = Path(sys.executable).parent / "lint_pkix_cert"
    seen = subprocess.run(
        [command, "lint", "-s", "WARNING", path], capture_output=True, text=True, timeout=120, check=False
    )
    assert not seen.stderr, seen.stderr
    return [line.strip() for line in seen.stdout.splitlines() if "(" in line]


def test_pkilint_finds_no_error_in_root_intermediate_and_leaf(world: World, leaf: Path) -> None:
    assert lint(world.authority.folder / "root.pem") == []
    assert lint(world.folder / "35-ca.crt") == []
    # Its check of URIs knows the schemes of the web alone, and a SPIFFE ID must have its own.
    spiffe = 'pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: "spiffe://fkd-mpu/province/35"'
    assert lint(leaf) == [spiffe]


def test_pkilint_would_find_something(world: World) -> None:
    odd = world.folder / "odd.crt"
    made = make_certificate(*world.intermediate("35"), claims_ca=True)
    odd.write_bytes(pem(made))
    assert len(lint(odd)) > 1


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
    key = openssl("req", "-in", request, "-noout", "-pubkey").stdout
    public = load_pem_public_key(key.encode()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert request_name(request.read_bytes(), Identity("fkd-mpu", "35")) == hashlib.sha256(public).hexdigest()


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
    issued = x509.load_pem_x509_certificate(world.issue(request, "35", NOW))
    assert issued.subject.rfc4514_string() == "CN=p35.fkd-mpu,O=fkd-mpu"  # ours, not "by hand"


def test_an_rsa_request_made_with_openssl_is_refused(world: World) -> None:
    request = by_hand(world, "rsa", "URI:spiffe://fkd-mpu/province/35,DNS:p35.fkd-mpu", algorithm=("rsa:2048",))
    with pytest.raises(TrustError, match="P-256"):
        world.issue(request, "35", NOW)


def test_a_request_in_binary_form_is_one_clear_error(world: World) -> None:
    by_hand(world, "good", "URI:spiffe://fkd-mpu/province/35,DNS:p35.fkd-mpu")
    der = world.folder / "good.der"
    openssl("req", "-in", world.folder / "good.csr", "-outform", "DER", "-out", der)
    with pytest.raises(ConfigError, match="not a whole PEM certificate request"):
        world.issue(der.read_bytes(), "35", NOW)


def test_a_certificate_openssl_signed_with_the_real_intermediates_key_is_still_judged_by_profile(world: World) -> None:
    by_hand(world, "odd", "URI:spiffe://fkd-mpu/province/35,DNS:p35.fkd-mpu")
    between, out, own = world.folder / "35-ca.crt", world.folder / "odd.crt", world.ca("35").home
    between.write_bytes(pem(world.intermediate("35")[0]))
    openssl(
        "x509", "-req", "-in", world.folder / "odd.csr", "-copy_extensions", "copyall", "-days", 5,
        "-CA", between, "-CAkey", own.ca / "1.key", "-out", out,
    )  # fmt: skip
    root = world.authority.folder / "root.pem"
    assert openssl("verify", "-CAfile", root, "-untrusted", between, out).returncode == 0
    with pytest.raises(TrustError, match="other extensions than the federation's profile"):
        verify_peer(out.read_bytes(), world.members("35", now=NOW), NOW)


def test_a_module_that_keeps_the_intermediates_key_can_sign_by_the_file_in_the_docs(world: World) -> None:
    """openssl stands for the module's own tool: it alone has the key, and the node takes what comes of it."""
    apart, home = world.ca("35").home, world.home("35")
    between, request, leaf, chain = (world.folder / name for name in ("ca.crt", "35.csr", "35.crt", "chain.crt"))
    between.write_bytes(pem(world.intermediate("35")[0]))
    request.write_bytes(request_certificate(home))
    signed = openssl(
        "x509", "-req", "-in", request, "-CA", between, "-CAkey", apart.ca / "1.key", "-days", 7,
        "-extfile", Path(__file__).parents[2] / "docs" / "deploy" / "leaf.cnf", "-extensions", "leaf", "-out", leaf,
    )  # fmt: skip
    assert signed.returncode == 0, signed.stderr
    chain.write_bytes(leaf.read_bytes() + between.read_bytes())
    installed = install_certificate(home, chain.read_bytes(), datetime.now(UTC), roots_pem=world.authority.root_pem)
    assert installed.province == "35"
    assert verify_peer(leaf.read_bytes(), world.members("35", now=NOW), datetime.now(UTC)).code == "35"
    assert lint(leaf)[-1:] == ['pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: "spiffe://fkd-mpu/province/35"']


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


def arrived(visitors: list[bytes | None], count: int) -> list[bytes | None]:
    """The visitors, once the server's thread has written so many down: a client may be gone sooner."""
    for _ in range(1000):
        if len(visitors) >= count:
            break
        time.sleep(0.01)
    return visitors


def visit(world: World, port: int, slot: Path) -> subprocess.CompletedProcess[str]:
    return openssl(
        "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-ign_eof",
        "-cert", slot, "-cert_chain", slot, "-key", slot,
        "-CAfile", world.authority.folder / "root.pem", "-verify_return_error", "-verify_hostname", "p35.fkd-mpu",
    )  # fmt: skip


def test_openssl_shakes_hands_with_our_credentials_on_both_ends(
    world: World, server: tuple[int, list[bytes | None]]
) -> None:
    port, visitors = server
    home = world.certified("33", now=NOW)
    seen = visit(world, port, home.pki / "current.pem")
    assert "Verify return code: 0 (ok)" in seen.stdout
    (visitor,) = arrived(visitors, 1)
    assert visitor is not None
    shown = x509.load_der_x509_certificate(visitor)
    assert shown == x509.load_pem_x509_certificate(load_credentials(home, NOW).chain_pem)
    world.authority.admit(Member("33", "Jawa Tengah", "127.0.0.1:7033"))
    membership = world.authority.publish(NOW)
    assert verify_peer(pem(shown), membership, NOW).code == "33"


def test_openssl_is_turned_away_with_a_foreign_certificate(
    world: World, server: tuple[int, list[bytes | None]], tmp_path: Path
) -> None:
    port, visitors = server
    (tmp_path / "foreign").mkdir()
    foreign = World(
        tmp_path / "foreign", ListedAuthority.found(tmp_path / "foreign" / "authority", "fkd-mpu", NOW), began=NOW
    )
    visit(world, port, foreign.certified("33", now=NOW).pki / "current.pem")
    assert arrived(visitors, 1) == [None]


def test_openssl_is_turned_away_with_an_expired_certificate(
    world: World, server: tuple[int, list[bytes | None]]
) -> None:
    port, visitors = server
    late = world.renewing("33", NOW)
    # The authority would not date a certificate back: its real intermediate is made to.
    intermediate, key = IssuerFolder(late.ca).signer()[1:]
    own = new_key()
    names = list(Identity("fkd-mpu", "33").subject_alternative_name)
    slot = world.folder / "late.pem"
    expired = make_certificate(intermediate, key, key=own, names=names, not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    slot.write_bytes(private_pem(own) + pem(expired, intermediate))
    visit(world, port, slot)
    visit(world, port, late.pki / "current.pem")
    refused, welcome = arrived(visitors, 2)
    assert refused is None
    assert welcome is not None
