"""`pulang node`: make a node's folder, serve it, look at it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import home_option, listed
from node.config import load_config, make_config, write_config
from node.errors import EXIT_DENIED, EXIT_OK, EXIT_RENEW, EXIT_UNAVAILABLE, NodeError
from node.local_client import call_node

if TYPE_CHECKING:
    from node.home import NodeHome
    from node.readiness import Probe
    from node.runtime import NodeRuntime

STATUS_DEADLINE_S = 5.0


@click.group()
def node() -> None:
    """Make and run a province's node."""


@node.command()
@home_option
@click.option("--province", required=True, metavar="CODE", help="Kemendagri code of the province, e.g. 35.")
@click.option("--federation", default="fkd-mpu", show_default=True, metavar="NAME", help="Name of the federation.")
@click.option("--listen", default="127.0.0.1:7035", show_default=True, metavar="HOST:PORT", help="Address for peers.")
@click.option("--database-url", metavar="URL", help="PostgreSQL or SQLite; default: SQLite in the folder.")
def init(home: NodeHome, province: str, federation: str, listen: str, database_url: str | None) -> None:
    """Make the folder of a new node."""
    settings = {"province": province, "federation": federation, "listen": listen, "database_url": database_url}
    write_config(home, make_config(**{key: value for key, value in settings.items() if value is not None}))
    click.echo(f"made {home.root} for province {province} of {federation}")
    click.echo(
        "next: pulang ca prepare, pulang ca install, pulang ca activate, pulang cert renew, pulang federation join, "
        "pulang registry import, pulang node serve"
    )


@node.command()
@home_option
def serve(home: NodeHome) -> None:
    """Answer peers and this province's caseworkers until stopped (SIGTERM)."""
    # Imported here: `pulang node --help` must not load gRPC and numba.
    from node.log import configure_logging  # noqa: PLC0415
    from node.pki.renewal import renew_if_due  # noqa: PLC0415
    from node.runtime import open_runtime  # noqa: PLC0415
    from node.serve import hold_home, serve  # noqa: PLC0415

    configure_logging()
    with hold_home(home):
        with suppress(NodeError):  # if it cannot, the present certificate may still do; and if not, that is said next
            renew_if_due(home, _now(), jitter=0.0)  # a node that was off for a week comes back by itself
        with open_runtime(home, _now) as runtime:
            asyncio.run(serve(runtime, lambda: click.echo(_ready_line(runtime))))


@node.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(home: NodeHome, *, as_json: bool) -> int:
    """Show what the node needs and whether it serves. Exit code 0: ready; 69: not running, or not ready."""
    from node.log import configure_logging  # noqa: PLC0415

    configure_logging(logging.WARNING)  # who looks at a node need not be told that its index was opened
    found = _running(home) or _at_rest(home)
    if as_json:
        probes = [dataclasses.asdict(each) for each in found.probes]
        click.echo(json.dumps({"state": found.state, "probes": probes, "peers": _peers(home)}))
    else:
        _print_status(home, found)
        for code, peer in _peers(home).items():
            if peer["state"] != "closed":
                click.echo(f"peer {code}      {peer['failures']} failures in a row, tried again by itself")
    return EXIT_OK if found.state == "ready" else EXIT_UNAVAILABLE


@node.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def calendar(home: NodeHome, *, as_json: bool) -> int:
    """Show everything that ends some day, soonest first: when, who acts, by which command.

    Works without a running node; fit for a daily timer. Exit codes: 0 nothing to do; 20 less than a third of some life
    is left and nobody has acted; 77 something has ended.
    """
    from node.deadlines import Life, deadlines  # noqa: PLC0415

    now = _now()
    found = sorted(deadlines(home), key=lambda each: each.ends_at)
    lives = {each.life(now) for each in found}
    if as_json:
        document = [
            {
                "what": each.what,
                "begins_at": each.begins_at.isoformat(),
                "ends_at": each.ends_at.isoformat(),
                "life": each.life(now).value,
                "who": each.who,
                "next": each.next,
                "by_itself": each.by_itself,
                "warning": each.warning(now),
            }
            for each in found
        ]
        click.echo(json.dumps({"format": "pulang-calendar-1", "deadlines": document}))
    else:
        for each in found:
            left = (each.ends_at - now).total_seconds() / 86400
            by = f"{each.who}, by itself" if each.by_itself else each.who
            click.echo(f"{each.ends_at:%Y-%m-%d %H:%M} UTC {left:>9,.1f} days  {each.what:<17} {by}")
        for text in filter(None, (each.warning(now) for each in found)):
            click.echo(f"warning  {text}")
    if lives & {Life.ENDED, Life.FUTURE}:
        return EXIT_DENIED
    return EXIT_RENEW if Life.DUE in lives else EXIT_OK


@dataclasses.dataclass(frozen=True, slots=True)
class _Status:
    state: str
    probes: tuple[Probe, ...]
    generation: str


def _running(home: NodeHome) -> _Status | None:
    """Return what the running node finds itself: its clock, and reloads that failed, no other process can see.

    None: none runs. Whether its door opens is tried from outside, as a peer would.
    """
    from node.readiness import Probe  # noqa: PLC0415

    try:
        reply = call_node(home, "readiness")
    except NodeError:
        return None
    door, serving = asyncio.run(_door(home))
    probes = (*(Probe(**each) for each in reply["probes"]), Probe("door", door))
    well = serving and not any(each.problem for each in probes)
    return _Status("ready" if well else "not ready", probes, reply["generation"])


async def _door(home: NodeHome) -> tuple[str | None, bool]:
    """Return why the node's own door does not open, and whether the node says there that it is ready."""
    from node.diagnosis import open_peers  # noqa: PLC0415
    from node.pki.membership import Member  # noqa: PLC0415

    config = load_config(home)
    try:
        peers = open_peers(home, _now)
        try:
            own = Member(config.province, "this node", config.listen)
            return None, await peers.is_serving(own, deadline_s=STATUS_DEADLINE_S)
        finally:
            await peers.close()
    except NodeError as error:
        return str(error), False


def _at_rest(home: NodeHome) -> _Status:
    """Return what a node that does not run would find."""
    from node.readiness import describe_generation, probe  # noqa: PLC0415
    from node.runtime import open_runtime  # noqa: PLC0415

    with open_runtime(home, _now) as runtime:
        return _Status("not running", probe(runtime), describe_generation(runtime))


def _peers(home: NodeHome) -> dict[str, Any]:
    """Return how the peers fare, as the running node knows it; nothing when none runs."""
    try:
        peers: dict[str, Any] = call_node(home, "peers")["peers"]
    except NodeError:
        return {}
    return peers


def _print_status(home: NodeHome, found: _Status) -> None:
    from node.pki.credentials import certificate_status  # noqa: PLC0415

    config, membership = load_config(home), listed(home)
    click.echo(f"province     {config.province} of {config.federation}, {config.listen}: {found.state}")
    click.echo(f"generation   {found.generation}")
    with suppress(NodeError):  # what is wrong with it is the probes' to say
        certificate = certificate_status(home, _now(), membership)
        if certificate.not_after is not None:
            click.echo(f"certificate  until {certificate.not_after:%Y-%m-%d %H:%M} UTC")
    if membership is not None:
        click.echo(f"membership   version {membership.version}, until {membership.expires_at:%Y-%m-%d %H:%M} UTC")
    for each in found.probes:
        if each.problem:
            click.echo(f"problem      {each.name}: {each.problem}")
        elif each.note:
            click.echo(f"note         {each.name}: {each.note}")


def _ready_line(runtime: NodeRuntime) -> str:
    from node.readiness import describe_generation  # noqa: PLC0415

    config = runtime.config
    return (
        f"serving province {config.province} of {config.federation} at {config.listen}: {describe_generation(runtime)}"
    )


def _now() -> datetime:
    return datetime.now(UTC)
