"""`pulang cert`: a node's certificate: renewed by the node, or requested, issued and installed by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.cli.ca import give_revocation, reason_option
from node.cli.options import home_option, issuer_options, listed
from node.cli.terminal import plain
from node.deadlines import of_node
from node.errors import EXIT_CONFIG, EXIT_DENIED, EXIT_OK, EXIT_RENEW
from node.files import PUBLIC, check_free, read_file, write_atomic
from node.pki.credentials import (
    CertificateState,
    certificate_status,
    install_certificate,
    own_identity,
    request_certificate,
)
from node.pki.intermediate import DEFAULT_LEAF_DAYS, ProvinceAuthority
from node.pki.register import Reason, revocation_json
from node.pki.renewal import renew, renew_if_due
from node.pki.request import MAX_REQUEST_BYTES, request_name
from node.pki.trust import MAX_CHAIN_PEM_BYTES

if TYPE_CHECKING:
    from node.home import NodeHome
    from node.pki.authority import Authority
    from node.pki.credentials import CertificateStatus

FILE: Final = click.Path(path_type=Path)
STATUS_EXIT: Final[dict[CertificateState, int]] = {
    CertificateState.VALID: EXIT_OK,
    CertificateState.RENEW: EXIT_RENEW,
    CertificateState.NOT_YET_VALID: EXIT_DENIED,
    CertificateState.EXPIRED: EXIT_DENIED,
    CertificateState.ABSENT: EXIT_CONFIG,
    CertificateState.REFUSED: EXIT_DENIED,
}


@click.group()
def cert() -> None:
    """Renew, request, install, revoke and inspect a node's certificate."""


@cert.command()
@home_option
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Where the request goes, e.g. request.csr.")
@click.option("--discard", is_flag=True, help="Throw away a key that still waits for its certificate.")
def request(home: NodeHome, out: Path, *, discard: bool) -> None:
    """Make a new key on this node and a request for its certificate; only the request leaves."""
    check_free(out)
    made = request_certificate(home, discard=discard)
    write_atomic(out, made, mode=PUBLIC)
    click.echo(f"wrote {out}; the key stays in {home.pki}")
    click.echo(f"its key     SHA-256 {request_name(made, own_identity(home))}: tell it to whoever issues, by telephone")
    click.echo("next: `pulang cert issue` where the intermediate is, then here `pulang cert install`")


@cert.command()
@home_option
@click.argument("request_file", type=FILE, metavar="REQUEST")
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Where leaf and intermediate go, e.g. 35.crt.")
@click.option("--days", default=DEFAULT_LEAF_DAYS, show_default=True, help="How long it is valid.")
def issue(home: NodeHome, request_file: Path, out: Path, days: int) -> None:
    """Sign the certificate that REQUEST asks for, with the intermediate in this folder.

    For provinces that keep their intermediate apart from their node; else the node renews by itself.
    """
    check_free(out)
    request_pem = read_file(request_file, limit=MAX_REQUEST_BYTES)
    authority = ProvinceAuthority(home)
    write_atomic(out, authority.issue(request_pem, datetime.now(UTC), days=days), mode=PUBLIC)
    click.echo(f"wrote {out}: {authority.identity}, {days} days")
    name = request_name(request_pem, authority.identity)
    click.echo(f"its key     SHA-256 {name}: compare it with the node's before it is installed")


@cert.command(name="renew")
@home_option
@click.option("--force", is_flag=True, help="Even if it is not due yet, or the present one cannot be read.")
def renew_certificate(home: NodeHome, *, force: bool) -> None:
    """Give the node a new key and certificate from its own intermediate. A running node does this by itself."""
    now = datetime.now(UTC)
    renewed = renew(home, now) if force else renew_if_due(home, now, jitter=0.0)
    if renewed is None and not home.ca.is_dir():
        renew(home, now)  # says why it cannot
    if renewed is None:
        click.echo("not due yet; --force renews all the same")
    _print_status(certificate_status(home, now))


@cert.command()
@issuer_options
@click.option("--serial", required=True, metavar="HEX", help="Of a leaf of this node, or of an intermediate.")
@reason_option
@click.option("--out", type=FILE, metavar="FILE", help="Where the revocation goes, to travel to the federation.")
def revoke(authority: Authority | None, home: NodeHome | None, serial: str, reason: str, out: Path | None) -> None:
    """Record that a certificate counts no more, and write what the federation publishes.

    With --home: a leaf of this province, which the node then renews by itself. With --authority: an intermediate.
    """
    now = datetime.now(UTC)
    if authority is not None:
        give_revocation(revocation_json(authority.revoke_intermediate(serial, Reason(reason), now)), out)
    elif home is not None:
        give_revocation(revocation_json(ProvinceAuthority(home).revoke_leaf(serial, Reason(reason), now)), out)


@cert.command()
@home_option
@click.argument("certificate", type=FILE, metavar="CERTIFICATE")
@click.option("--root", type=FILE, metavar="FILE", help="The authority's root.pem; needed the first time.")
@click.option(
    "--replace-root", is_flag=True, help="Trust another root from now on: only when the federation's changed."
)
def install(home: NodeHome, certificate: Path, root: Path | None, *, replace_root: bool) -> None:
    """Check CERTIFICATE against this node's key, province and root, and make it the current one."""
    install_certificate(
        home,
        read_file(certificate, limit=MAX_CHAIN_PEM_BYTES),
        datetime.now(UTC),
        roots_pem=None if root is None else read_file(root, limit=MAX_CHAIN_PEM_BYTES),
        replace_roots=replace_root,
    )
    _print_status(certificate_status(home, datetime.now(UTC)))


@cert.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(home: NodeHome, *, as_json: bool) -> int:
    """Show whose certificate this node has, until when, and whether others accept it by the list that is here.

    From half of its life on a line says so. Exit codes: 0 valid; 20 valid, less than a third of its life is left:
    somebody must act, a running node would have renewed it; 77 expired, not yet valid, refused by others, or not to be
    trusted; 78 none installed.
    """
    now = datetime.now(UTC)
    found = certificate_status(home, now, listed(home))
    warnings = [] if found.not_after is None else [text for each in of_node(home) if (text := each.warning(now))]
    if as_json:
        click.echo(json.dumps(_as_json(found) | {"warnings": warnings}))
    else:
        _print_status(found)
        for text in warnings:
            click.echo(f"warning      {text}")
    return STATUS_EXIT[found.state]


def _as_json(status: CertificateStatus) -> dict[str, object]:
    return {
        "state": status.state.value,
        "federation": status.identity.federation,
        "province": status.identity.province,
        "serial": None if status.serial is None else f"{status.serial:x}",
        "not_before": None if status.not_before is None else status.not_before.isoformat(),
        "not_after": None if status.not_after is None else status.not_after.isoformat(),
        "days_left": None if status.left is None else round(status.left.total_seconds() / 86400, 2),
        "pending": status.is_pending,
        "refused": None if status.refused is None else str(status.refused),
        "root_sha256": list(status.root_fingerprints),
    }


def _print_status(status: CertificateStatus) -> None:
    click.echo(f"certificate  {status.identity}: {status.state.value.replace('_', ' ')}")
    if status.not_before and status.not_after and status.left is not None:
        click.echo(f"from         {status.not_before:%Y-%m-%d %H:%M} UTC")
        click.echo(
            f"until        {status.not_after:%Y-%m-%d %H:%M} UTC, {status.left.total_seconds() / 86400:.1f} days"
        )
        click.echo(f"serial       {status.serial:x}")
    for root in status.root_fingerprints:
        click.echo(f"root         SHA-256 {root}")
    if status.is_pending:
        click.echo("pending      a new key waits for its certificate")
    if status.refused is not None:
        click.echo(plain(f"refused      {status.refused}"))
        if status.refused.hint:
            click.echo(plain(f"next         {status.refused.hint}"))
    elif status.state is not CertificateState.VALID:
        click.echo("next         pulang cert renew; if the intermediate is elsewhere: pulang cert request")
