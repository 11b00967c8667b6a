"""`pulang ca`: the federation's roots and a province's intermediates, from their making to their end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli.options import authority_option, home_option, issuer_options, listed
from node.deadlines import Life, of_issuer
from node.errors import EXIT_CONFIG, EXIT_DENIED, EXIT_OK, EXIT_RENEW
from node.files import PUBLIC, check_free, read_file, write_atomic
from node.pki.authority import DEFAULT_INTERMEDIATE_DAYS, Authority
from node.pki.credentials import adopt_roots, fingerprint, roots_path
from node.pki.identity import Identity
from node.pki.intermediate import ProvinceAuthority
from node.pki.register import Reason, revocation_json
from node.pki.request import MAX_REQUEST_BYTES, request_name
from node.pki.stages import Issuers, next_step
from node.pki.trust import MAX_CHAIN_PEM_BYTES

if TYPE_CHECKING:
    from node.home import NodeHome

FILE: Final = click.Path(path_type=Path)

reason_option = click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    default=Reason.SUPERSEDED.value,
    show_default=True,
    help="Why it is taken back.",
)


@click.group()
def ca() -> None:
    """Roll the federation's roots (--authority) and a province's intermediates (--home) in stages.

    prepare, activate, taint, revoke: two are trusted while one replaces the other, and no call fails in between.
    """


@ca.command()
@issuer_options
@click.option("--out", type=FILE, metavar="FILE", help="Where the request for an intermediate goes, e.g. 35-ca.csr.")
@click.option("--discard", is_flag=True, help="Of an intermediate: throw away a key that waits for its certificate.")
def prepare(authority: Authority | None, home: NodeHome | None, out: Path | None, *, discard: bool) -> None:
    """Make the next root; or the next intermediate's key, and the request for its certificate.

    A root that is prepared is in root.pem: publish it to every member before it is activated.
    """
    if authority is not None:
        made = authority.prepare(_now())
        click.echo(f"root number {made.number}  SHA-256 {fingerprint(made.certificate)}")
        _print_next(authority.issuers)
    elif home is not None:
        if out is None:
            raise click.UsageError("--out FILE is needed: where the request goes")
        check_free(out)
        own = ProvinceAuthority(home)
        request_pem = own.prepare(_now(), discard=discard)
        write_atomic(out, request_pem, mode=PUBLIC)
        click.echo(f"wrote {out}; the key stays in {home.ca}")
        name = request_name(request_pem, own.identity)
        click.echo(f"its key     SHA-256 {name}: tell it to the authority by telephone")
        click.echo("next: the authority runs `pulang ca issue`, then here `pulang ca install`")


@ca.command()
@authority_option
@click.argument("request_file", type=FILE, metavar="REQUEST")
@click.option("--province", required=True, metavar="CODE", help="The province whose request this must be, e.g. 35.")
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Where the certificate goes, e.g. 35-ca.crt.")
@click.option("--days", default=DEFAULT_INTERMEDIATE_DAYS, show_default=True, help="How long it is valid.")
def issue(authority: Authority, request_file: Path, province: str, out: Path, days: int) -> None:
    """Sign the intermediate that REQUEST asks for, if it is really that province's.

    It is in the membership from the next publication on; the province activates it after that.
    """
    check_free(out)
    request_pem = read_file(request_file, limit=MAX_REQUEST_BYTES)
    pem = authority.issue_intermediate(request_pem, province, _now(), days=days)
    write_atomic(out, pem, mode=PUBLIC)
    click.echo(f"wrote {out}: intermediate of province {province} of {authority.federation}, {days} days")
    name = request_name(request_pem, Identity(authority.federation, province))
    click.echo(f"its key     SHA-256 {name}: compare it with the province's by telephone before it is published")
    click.echo("next: publish the membership; the province runs `pulang ca install`, then `pulang ca activate`")


@ca.command()
@home_option
@click.argument("certificate", type=FILE, metavar="CERTIFICATE")
@click.option("--root", type=FILE, metavar="FILE", help="The authority's root.pem; needed the first time.")
def install(home: NodeHome, certificate: Path, root: Path | None) -> None:
    """Check CERTIFICATE against the waiting key, the province and the root, and take it in."""
    authority = ProvinceAuthority(home)
    if (membership := listed(home)) is not None and roots_path(home).exists():
        adopt_roots(home, membership.roots)  # a root that was just published: the running node would be 20 s later
    taken = authority.install(
        read_file(certificate, limit=MAX_CHAIN_PEM_BYTES),
        _now(),
        roots_pem=None if root is None else read_file(root, limit=MAX_CHAIN_PEM_BYTES),
    )
    click.echo(f"certificate SHA-256 {fingerprint(taken.certificate)}: signers must be shown the same")
    _print_issuers(authority.issuers, _now())


@ca.command()
@issuer_options
@click.option("--force", is_flag=True, help="Of an intermediate: even if this node's list does not have it yet.")
def activate(authority: Authority | None, home: NodeHome | None, *, force: bool) -> None:
    """Let the prepared one sign. The one before signs no more; what it signed counts on."""
    if home is not None:
        issuers = ProvinceAuthority(home).activate(_now(), membership=None if force else listed(home))
    else:
        issuers = _opened(authority, home).activate(_now())
    _print_issuers(issuers, _now())


@ca.command()
@issuer_options
def taint(authority: Authority | None, home: NodeHome | None) -> None:
    """Say that what the old one signed must be reissued; its key is deleted. A running node renews by itself."""
    issuers = _opened(authority, home).taint(_now())
    _print_issuers(issuers, _now())


@ca.command()
@issuer_options
@reason_option
@click.option(
    "--out", type=FILE, metavar="FILE", help="Of an intermediate: where the revocation goes, e.g. 35.revoked."
)
@click.option("--force", is_flag=True, help="Even if certificates in use hang on it: they are cut off at once.")
def revoke(authority: Authority | None, home: NodeHome | None, reason: str, out: Path | None, *, force: bool) -> None:
    """Take the tainted one out: a root leaves root.pem; an intermediate's revocation goes to the federation."""
    if authority is not None:
        _print_issuers(authority.revoke(_now(), force=force), _now())
        click.echo("next: publish the membership, so that every node lets the old root go")
    elif home is not None:
        own = ProvinceAuthority(home)
        give_revocation(revocation_json(own.revoke(_now(), Reason(reason), force=force)), out)


@ca.command()
@issuer_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(authority: Authority | None, home: NodeHome | None, *, as_json: bool) -> int:
    """Show every issuer's stage and dates, and what to do next; from half of its life on, a line says so.

    Exit codes: 0 nothing to do soon; 20 the active one has less than a third of its life left and no successor; 77 it
    has expired; 78 none is active.
    """
    issuers, now = _opened(authority, home).issuers, _now()
    if as_json:
        click.echo(json.dumps(_as_json(issuers, authority, now)))
    else:
        _print_issuers(issuers, now)
        if authority is not None:
            _print_intermediates(authority, now)
        for text in _warnings(issuers, now):
            click.echo(f"warning  {text}")
    return _status_exit(issuers, now)


def give_revocation(entry: bytes, out: Path | None) -> None:
    """Write a revocation where it was asked for, else print it."""
    if out is None:
        click.echo(entry.decode("ascii"), nl=False)
        return
    write_atomic(out, entry, mode=PUBLIC, replace=True)
    click.echo(f"wrote {out}: it counts once the federation has published it")


def _opened(authority: Authority | None, home: NodeHome | None) -> Authority | ProvinceAuthority:
    if authority is not None:
        return authority
    assert home is not None  # issuer_options: one of the two is there
    return ProvinceAuthority(home)


def _status_exit(issuers: Issuers, now: datetime) -> int:
    if (deadline := of_issuer(issuers, "the active one", "whoever keeps it")) is None:
        return EXIT_CONFIG
    return {Life.ENDED: EXIT_DENIED, Life.FUTURE: EXIT_DENIED, Life.DUE: EXIT_RENEW}.get(deadline.life(now), EXIT_OK)


def _warnings(issuers: Issuers, now: datetime) -> list[str]:
    deadline = of_issuer(issuers, "the active one", "whoever keeps it")
    warning = deadline.warning(now) if deadline else None
    return [] if warning is None else [warning]


def _print_issuers(issuers: Issuers, now: datetime) -> None:
    for issuer in issuers:
        line = f"number {issuer.number}  {issuer.stage.value:<9} since {issuer.since:%Y-%m-%d %H:%M} UTC"
        if issuer.pem is not None:
            end: datetime = issuer.certificate.not_valid_after_utc
            line += f"  until {end:%Y-%m-%d} ({max(timedelta(), end - now).days} days)"
        click.echo(line)
    _print_next(issuers)


def _print_intermediates(authority: Authority, now: datetime) -> None:
    for issued in authority.register.issued():
        if issued.kind == "intermediate" and now < issued.not_after:
            number = next((each.number for each in authority.issuers if each.key == issued.issuer_key), "?")
            click.echo(
                f"province {issued.province}  under root {number}  until {issued.not_after:%Y-%m-%d}  {issued.serial}"
            )


def _print_next(issuers: Issuers) -> None:
    click.echo(f"next: {next_step(issuers)}")


def _as_json(issuers: Issuers, authority: Authority | None, now: datetime) -> dict[str, Any]:
    found: dict[str, Any] = {
        "issuers": [
            {
                "number": issuer.number,
                "stage": issuer.stage.value,
                "since": issuer.since.isoformat(),
                "key": issuer.key,
                "serial": f"{issuer.certificate.serial_number:x}" if issuer.pem else None,
                "sha256": fingerprint(issuer.certificate) if issuer.pem else None,
                "not_before": issuer.certificate.not_valid_before_utc.isoformat() if issuer.pem else None,
                "not_after": issuer.certificate.not_valid_after_utc.isoformat() if issuer.pem else None,
            }
            for issuer in issuers
        ],
        "next": next_step(issuers),
        "warnings": _warnings(issuers, now),
    }
    if authority is not None:
        found["intermediates"] = [
            {
                "province": issued.province,
                "serial": issued.serial,
                "issuer_key": issued.issuer_key,
                "not_after": issued.not_after.isoformat(),
            }
            for issued in authority.register.issued()
            if issued.kind == "intermediate" and now < issued.not_after
        ]
    return found


def _now() -> datetime:
    return datetime.now(UTC)
