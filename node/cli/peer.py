"""`pulang peer`: how the other provinces' nodes fare as seen from here, and why one does not answer."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli.options import home_option
from node.cli.terminal import plain
from node.errors import EXIT_DENIED, EXIT_OK, EXIT_UNAVAILABLE, NodeError
from node.local_client import call_node

if TYPE_CHECKING:
    from node.diagnosis import PeerView, Step
    from node.home import NodeHome

MARKS: Final = {"well": "ok", "warning": "warning", "failed": "FAILED", "skipped": "-"}


@click.group()
def peer() -> None:
    """Look at the other provinces' nodes from here. Works beside a running node and without one."""


@peer.command(name="list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_peers(home: NodeHome, *, as_json: bool) -> int:
    """Ask every other member how it is, all at once, and show what comes back within seconds.

    Exit code 0: every one is ready and accepts us; 69: at least one is not.
    """
    from node.diagnosis import view_all  # noqa: PLC0415 - gRPC is slow to load

    views = asyncio.run(view_all(home, _now))
    breakers = _breakers(home)
    if as_json:
        click.echo(json.dumps({"format": "pulang-peers-1", "peers": [_as_json(each, breakers) for each in views]}))
    else:
        _print_list(views)
        for code, failures in breakers.items():
            click.echo(f"the running node leaves {code} alone for a moment: {failures} failures in a row")
    return EXIT_OK if all(each.state == "ready" for each in views) else EXIT_UNAVAILABLE


@peer.command()
@home_option
@click.argument("code", metavar="CODE")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def diagnose(home: NodeHome, code: str, *, as_json: bool) -> int:
    """Find out why a province does not answer: our certificate and list, its name, port and TLS, its word about us.

    The first line that is FAILED has the reason; the hint below it says what to do, and who must. Exit code 0: nothing
    stands in the way; 77: a certificate or a list is not accepted, here or there; 69: anything else failed.
    """
    from node.diagnosis import State  # noqa: PLC0415
    from node.diagnosis import diagnose as look  # noqa: PLC0415

    steps = asyncio.run(look(home, code, _now))
    failed = [each for each in steps if each.state is State.FAILED]
    exit_code = EXIT_OK if not failed else EXIT_DENIED if failed[0].is_distrust else EXIT_UNAVAILABLE
    if as_json:
        document = {"format": "pulang-diagnosis-1", "province": code, "exit": exit_code, "steps": _steps(steps)}
        click.echo(json.dumps(document))
        return exit_code
    for each in steps:
        click.echo(plain(f"{MARKS[each.state]:<8} {each.name:<22} {each.detail}"))
        if each.hint and each.state in (State.FAILED, State.WARNING):
            click.echo(plain(f"         hint: {each.hint}"))
    click.echo("nothing stands in the way" if not failed else plain(f"it is stopped by: {failed[0].name}"))
    return exit_code


def _steps(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "state": each.state.value, "detail": each.detail, "hint": each.hint, "facts": each.facts}
        for each in steps
    ]


def _as_json(found: PeerView, breakers: dict[str, int]) -> dict[str, Any]:
    told, standing = found.told, found.standing
    return {
        "code": found.member.code,
        "name": found.member.name,
        "address": found.member.address,
        "state": found.state,
        "detail": None if found.failure is None else str(found.failure),
        "ms": found.ms,
        "clock_offset_s": round(told.offset.seconds, 3) if told and told.offset else None,
        "versions": told.versions._asdict() if told else None,
        "list_version": standing.list_version if standing else None,
        "certificate_ends_at": standing.ends_at.isoformat() if standing else None,
        "key_epochs": sorted(standing.key_epochs) if standing else None,
        "failures": breakers.get(found.member.code, 0),
    }


def _print_list(views: list[PeerView]) -> None:
    head = ("", "", "state", "ms", "clock", "list", "our certificate counts until")
    click.echo("{:<3} {:<21} {:<15} {:>7} {:>8} {:>5}  {}".format(*head).rstrip())
    for found in views:
        told, standing = found.told, found.standing
        clock = f"{told.offset.seconds:+.1f} s" if told and told.offset else ""
        line = (
            f"{found.member.code:<3} {found.member.name:<21} {found.state:<15} "
            f"{'' if found.ms is None else found.ms:>7} {clock:>8} {standing.list_version if standing else '':>5}  "
            f"{f'{standing.ends_at:%Y-%m-%d %H:%M} UTC' if standing else ''}"
        )
        click.echo(plain(line.rstrip()))
        if found.failure is not None:
            click.echo(plain(f"    {found.failure}"))
            click.echo(f"    hint: pulang peer diagnose {found.member.code}")


def _breakers(home: NodeHome) -> dict[str, int]:
    """Return failures in a row of every peer that the running node leaves alone; nothing when none runs."""
    try:
        peers: dict[str, Any] = call_node(home, "peers")["peers"]
    except NodeError:
        return {}
    return {code: each["failures"] for code, each in peers.items() if each["state"] != "closed"}


def _now() -> datetime:
    return datetime.now(UTC)
