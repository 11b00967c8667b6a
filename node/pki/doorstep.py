"""What a peer's door shows to who knocks: its certificate, and whether it lets ours in; gRPC tells neither.

Python's own TLS, used for looking only: no question ever goes this way.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node.errors import (
    ConfigError,
    NodeError,
    PeerContractError,
    PeerError,
    PeerTimeoutError,
    PeerUnreachableError,
    TrustError,
)
from node.pki.identity import Identity
from node.pki.trust import verify_peer

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from node.pki.membership import Member, Membership

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    (0, 0, 0, 4, 0, 0, 0, 0, 0)
)  # RFC 9113, 3.4: and no settings
# gRPC closes the connection where TLS has an alert for each cause: the words can be no more exact than this.
NOT_LET_IN: Final = (
    "it ended the connection without a word, as a node does that does not accept a certificate's root or dates"
)
NOT_LET_IN_HINT: Final = (
    "by our list ours counts: compare roots and versions (`pulang federation show`) and the clocks at both ends"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate at a door. problem: why it is not that of the member who should be there, None when it is."""

    not_after: datetime
    serial: str
    problem: NodeError | None


@dataclass(frozen=True, slots=True)
class Door:
    """What a knock has shown. refused: why ours was not let in, None when it was, or when none was shown."""

    shown: Shown
    refused: NodeError | None


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host name. Raises PeerUnreachableError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PeerUnreachableError(
            f"the name {host} leads nowhere: {error.strerror}",
            hint="ask its admin for the address, and this machine's for the name server",
        ) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def reach(host: str, port: int, timeout_s: float) -> socket.socket:
    """Return an open connection. Raises PeerUnreachableError or PeerTimeoutError, each with its own hint."""
    try:
        return socket.create_connection((host, port), timeout_s)
    except TimeoutError:
        raise PeerTimeoutError(
            f"nothing at {host}:{port} answers within {timeout_s:.0f} s",
            hint="a firewall may drop the packets: ask the admins of both networks for TCP to this port",
        ) from None
    except ConnectionRefusedError:
        raise PeerUnreachableError(
            f"nobody listens at {host}:{port}",
            hint="its node is not running, or listens elsewhere: ask its admin for `pulang node status`",
        ) from None
    except OSError as error:
        raise PeerUnreachableError(
            f"{host}:{port} cannot be reached: {error.strerror}", hint="see whether this machine has a way there"
        ) from None


def knock(connection: socket.socket, member: Member, membership: Membership, own: Path | None, now: datetime) -> Door:
    """Shake hands, look at the certificate shown, and see whether ours is let in. own: our slot; None: show nothing.

    Raises PeerContractError or PeerUnreachableError when there is no TLS 1.3 to speak of, PeerTimeoutError for silence,
    ConfigError when our own slot cannot be used.
    """
    identity = Identity(membership.federation, member.code)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a bad one is what is looked for: it is judged below, and nothing is sent
    context.set_alpn_protocols(["h2"])
    if own is not None:
        try:
            context.load_cert_chain(own)
        except (OSError, ValueError):  # ValueError: what is no PEM at all
            raise ConfigError(f"{own} cannot be used", hint="`pulang cert renew` makes a new one") from None
    try:
        with context.wrap_socket(connection, server_hostname=identity.server_name) as tls:
            der = tls.getpeercert(binary_form=True)
            refused: NodeError | None = None
            try:
                tls.sendall(PREFACE)
                if not tls.recv(9):
                    refused = PeerUnreachableError(NOT_LET_IN, hint=NOT_LET_IN_HINT)
            except OSError as error:
                refused = _alert(error)
    except OSError as error:
        raise _alert(error) from None
    if der is None:
        raise PeerContractError("it shows no certificate", hint="another program listens there")
    return Door(_judge(der, member, membership, now), None if own is None else refused)


def _judge(der: bytes, member: Member, membership: Membership, now: datetime) -> Shown:
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        raise PeerContractError("what it shows cannot be read as a certificate") from None
    problem: NodeError | None = None
    try:
        found = verify_peer(certificate.public_bytes(Encoding.PEM), membership, now)
        if found.code != member.code:
            problem = TrustError(
                f"province {found.code} answers there",
                hint="the address in the list is wrong, or leads to another node: tell both admins",
            )
    except NodeError as error:
        problem = error
    return Shown(certificate.not_valid_after_utc, f"{certificate.serial_number:x}", problem)


def _alert(error: OSError) -> PeerError:
    """Return what a failed handshake means. The library's words may quote the other end: ours do not."""
    if isinstance(error, TimeoutError):
        return PeerTimeoutError(
            "it accepts the connection and then says nothing",
            hint="its node hangs or is overloaded, or another program has the port: ask its admin",
        )
    reason = getattr(error, "reason", None) or ""
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return PeerContractError(
            "it does not speak TLS 1.3", hint="no device that ends TLS may stand between, and no other program there"
        )
    if not isinstance(error, ssl.SSLError) or "ALERT" in reason:
        return PeerUnreachableError(NOT_LET_IN, hint=NOT_LET_IN_HINT)
    return PeerContractError(
        "what listens there does not speak TLS as a node does",
        hint="another program has the port, or a device stands between: none may",
    )
