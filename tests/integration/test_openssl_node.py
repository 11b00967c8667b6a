"""`openssl s_client` at the door of a real node: let in, turned away by TLS, or let in by TLS and served nothing."""

from __future__ import annotations

import selectors
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from node.pki.intermediate import ProvinceAuthority
from node.pki.register import Reason
from node.rpc.client import HEALTH_CHECK
from node.rpc.server import NOT_ACCEPTED
from tests.federation import Federation, crowd, now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.federation import Node

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
WAIT_S = 20.0
SETTINGS, HEADERS, DATA = 4, 1, 0  # RFC 9113, 6


@dataclass(frozen=True)
class Visit:
    """What came of a handshake and one call. status: gRPC's, None when no answer came."""

    said: str
    status: int | None
    message: str = ""


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that is never indexed, without Huffman coding. Source: RFC 7541, 6.2.2."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def health_check(authority: str) -> bytes:
    """A whole HTTP/2 connection with one gRPC call, as bytes: openssl has no HTTP of its own."""
    fields = (
        b"\x83\x87"  # :method POST, :scheme https
        + literal(b":path", HEALTH_CHECK.encode())
        + literal(b":authority", authority.encode())
        + literal(b"content-type", b"application/grpc")
        + literal(b"te", b"trailers")
        + literal(b"grpc-timeout", b"10S")
    )
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, 4, 1, fields)
        + frame(DATA, 1, 1, bytes(5))
    )


def headers_in(data: bytes) -> bytes:
    """The payloads of all HEADERS frames, in a row."""
    found = b""
    while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
        found += data[9 : 9 + size] if data[3] == HEADERS else b""
        data = data[9 + size :]
    return found


def field(headers: bytes, name: bytes) -> bytes | None:
    """A field that gRPC writes as a plain literal."""
    place = headers.find(name)
    if place < 0:
        return None
    size = headers[place + len(name)]
    assert size < 128, "not Huffman-coded"
    return headers[place + len(name) + 1 :][:size]


def visit(asked: Node, slot: Path, root: Path) -> Visit:
    """Shake hands with a node and call it, by openssl, with this key and certificate."""
    name = f"p{asked.code}.fkd-mpu.test"
    with subprocess.Popen(
        [
            "openssl", "s_client", "-connect", asked.address, "-tls1_3", "-alpn", "h2", "-servername", name,
            "-cert", slot, "-cert_chain", slot, "-key", slot, "-CAfile", root, "-verify_return_error",
            "-verify_hostname", name, "-quiet",
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as client:  # fmt: skip
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        client.stdin.write(health_check(name))
        client.stdin.flush()
        answer, ends_at = b"", time.monotonic() + WAIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(client.stdout, selectors.EVENT_READ)
            while field(headers_in(answer), b"grpc-status") is None and time.monotonic() < ends_at:
                if not selector.select(0.5):
                    continue
                part = client.stdout.read1(65536)  # type: ignore[attr-defined]
                if not part:
                    break
                answer += part
        client.kill()
        said = client.stderr.read().decode()
    headers = headers_in(answer)
    status, message = field(headers, b"grpc-status"), field(headers, b"grpc-message")
    return Visit(said, None if status is None else int(status), (message or b"").decode())


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A running node whose list says that the leaf of 51 is revoked."""
    made = Federation(tmp_path_factory.mktemp("openssl"))
    node = made.node("33", crowd(20, seed=1))
    made.node("35")
    own = ProvinceAuthority(made.node("51").home)
    taken_back = own.revoke_leaf(own.register.issued()[-1].serial, Reason.KEY_COMPROMISE, now())
    made.signing.publish(replace(made.authority.publish(now()), revoked=(taken_back,)))
    made.signing.join(node.home)
    with node.running():
        yield node


def slot_of(federation: Federation, code: str) -> Path:
    return federation.nodes[code].home.pki / "current.pem"


def test_openssl_is_let_in_with_a_good_certificate_and_served(asked: Node) -> None:
    root = asked.federation.authority.folder / "root.pem"
    seen = visit(asked, slot_of(asked.federation, "35"), root)
    assert seen.status == 0, seen
    assert "verify error" not in seen.said


def test_openssl_with_a_revoked_certificate_shakes_hands_and_is_served_nothing(asked: Node) -> None:
    root = asked.federation.authority.folder / "root.pem"
    seen = visit(asked, slot_of(asked.federation, "51"), root)
    assert "verify error" not in seen.said
    assert (seen.status, seen.message[: len(NOT_ACCEPTED)]) == (16, NOT_ACCEPTED)  # UNAUTHENTICATED


def test_openssl_with_a_foreign_certificate_gets_no_answer(asked: Node, tmp_path: Path) -> None:
    foreign = Federation(tmp_path)
    foreign.node("35")
    root = asked.federation.authority.folder / "root.pem"
    assert visit(asked, slot_of(foreign, "35"), root).status is None


def test_openssl_itself_refuses_the_node_under_a_foreign_root(asked: Node, tmp_path: Path) -> None:
    foreign = Federation(tmp_path)
    seen = visit(asked, slot_of(asked.federation, "35"), foreign.authority.folder / "root.pem")
    assert seen.status is None
    assert "verify error" in seen.said
