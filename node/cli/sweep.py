"""`pulang sweep`: who is held back because their questions look like a sweep, and letting them go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from matching.places import province_name
from node.cli.accountable import check_peer, deed, node_store, operator_name
from node.cli.options import home_option
from node.errors import ConfigError

if TYPE_CHECKING:
    from node.home import NodeHome


@click.group()
def sweep() -> None:
    """See whose questions look like a sweep of this registry, and let them go."""


@sweep.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(home: NodeHome, *, as_json: bool) -> None:
    """List who is held back, since when, and what their questions looked like."""
    with node_store(home) as (_, store):
        held = store.throttles()
    if as_json:
        rows = [
            {
                "peer": each.peer,
                "operator": each.operator_pseudonym.hex() if each.operator_pseudonym else None,
                "pattern": each.pattern,
                "evidence": each.evidence,
                "since": each.since.isoformat(),
            }
            for each in held
        ]
        click.echo(json.dumps({"held_back": rows}))
        return
    for each in held:
        whom = f"operator {each.operator_pseudonym.hex()}" if each.operator_pseudonym else "the whole province"
        click.echo(
            f"{each.peer} {province_name(each.peer)}: {whom}, {each.pattern} ({each.evidence}), "
            f"since {each.since:%Y-%m-%d %H:%M} UTC"
        )
    if not held:
        click.echo("nobody is held back")
    else:
        click.echo("next: telephone them, look at the audit, then `pulang sweep release PEER`")


@sweep.command()
@home_option
@click.argument("peer")
@click.option("--operator", metavar="HEX", help="Only this operator, by pseudonym.")
def release(home: NodeHome, peer: str, operator: str | None) -> None:
    """Let PEER, a province's code, ask again as before. What led to it is forgotten; the audit keeps both."""
    check_peer(peer)
    try:
        pseudonym = bytes.fromhex(operator) if operator is not None else None
    except ValueError:
        raise ConfigError("the operator must be a pseudonym in hexadecimal, as `pulang sweep list` shows it") from None
    with node_store(home) as (_, store):
        about = f"sweep {peer} {operator or ''}".encode()
        entry = deed(home, "sweep_release", peer, "released", about=about)
        ended = store.release(peer, entry, by=operator_name(), operator=pseudonym)
    if not ended:
        raise ConfigError(f"{peer} {province_name(peer)} is not held back", hint="`pulang sweep list` says who is")
    click.echo(f"released {peer} {province_name(peer)}: {ended} alarms")
