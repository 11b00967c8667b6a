"""`pulang handle`: a code another province reads out becomes the record it stands for, once."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from matching.places import province_name
from node.cli.accountable import check_peer, deed, node_store, operator_name
from node.cli.options import home_option
from node.cli.terminal import plain
from node.errors import AccessDeniedError, ConfigError
from node.handles import read_handle
from node.messages import CASE_REFERENCE_PATTERN
from node.store import Closed, Opening

if TYPE_CHECKING:
    from node.home import NodeHome
    from node.store import AuditEntry, HandleRecord, Opened

# Why a handle stays closed -> what the caseworker is told, and what to do.
REASONS: Final[dict[Closed, tuple[str, str]]] = {
    Closed.UNKNOWN: (
        "this code is not known here: misheard, or expired and forgotten",
        "have it read out again; codes end after 7 days, then they ask again",
    ),
    Closed.WRONG_PEER: (
        "this code was not given to {peer}",
        "do not go on: call that Dinas Sosial back at the number you know",
    ),
    Closed.WRONG_CASE: (
        "this code was not given for this case",
        "have the case number read out again; if it stays wrong, call back at the number you know",
    ),
    Closed.EXPIRED: ("this code expired on {expires}", "they ask again and get a new one"),
    Closed.OPENED_BEFORE: (
        "this code was opened on {opened} by {by}",
        "speak to that colleague; if nobody did, treat it as a leak. They ask again and get a new one",
    ),
}


@click.group()
def handle() -> None:
    """Look up whom a code stands for that another province reads out."""


@handle.command("open")
@home_option
@click.argument("code", metavar="HANDLE")
@click.option("--peer", required=True, metavar="CODE", help="Code of the province that calls.")
@click.option("--case", required=True, metavar="REF", help="Its case number.")
@click.option("--record", is_flag=True, help="Also show the person's record, read from the registry's source.")
def open_(home: NodeHome, code: str, peer: str, case: str, *, record: bool) -> None:
    """Show the record id that HANDLE stands for. A code opens once, for the province and case it was given to.

    Every attempt is audited. What is shown stays on this terminal.
    """
    check_peer(peer)
    if not re.fullmatch(CASE_REFERENCE_PATTERN, case):
        raise ConfigError("a case number is 1 to 64 of A-Z a-z 0-9 . _ -", hint="have it read out again")
    opening = Opening(read_handle(code), peer, case, operator_name(), datetime.now(UTC))

    def entry(opened: Opened) -> AuditEntry:
        outcome = "refused" if opened.closed else "opened"
        made = deed(home, "handle_open", peer, outcome, about=opening.handle, reason=opened.closed)
        known = opened.record
        nonce, generation = (known.question_nonce, known.generation) if known and not opened.closed else (None, None)
        return replace(made, case_reference=case, nonce=nonce, generation=generation)

    with node_store(home) as (_, store):
        opened = store.open_handle(opening, entry)
    if opened.closed is not None:
        raise _refusal(opened, peer)
    assert opened.record is not None
    click.echo(plain(f"record id    {opened.record.record_id}"))
    click.echo(
        f"asked by     {peer} {province_name(peer)}, case {case}, on {opened.record.issued_at:%Y-%m-%d %H:%M} UTC"
    )
    if record:
        _show(home, opened.record)


def _refusal(opened: Opened, peer: str) -> AccessDeniedError:
    assert opened.closed is not None
    what, hint = REASONS[opened.closed]
    known = opened.record
    return AccessDeniedError(
        what.format(
            peer=f"{peer} {province_name(peer)}",
            expires=f"{known.expires_at:%Y-%m-%d %H:%M} UTC" if known else "",
            opened=f"{known.opened_at:%Y-%m-%d %H:%M} UTC" if known and known.opened_at else "",
            by=known.opened_by if known else "",
        ),
        hint=hint,
    )


def _show(home: NodeHome, opened: HandleRecord) -> None:
    """Print the person's record as the registry has it now; where it cannot be read, say why and go on."""
    from node.errors import NodeError  # noqa: PLC0415
    from node.registry_record import find_record  # noqa: PLC0415 - polars only where a registry is read
    from node.registry_source import recall  # noqa: PLC0415

    try:
        source = recall(home)
        with source.open() as registry:
            found = find_record(registry, source.mapping, opened.record_id)
    except NodeError as error:
        click.echo(plain(f"the record cannot be shown: {error}"), err=True)
        return
    if len(found) != 1:
        many = "no record" if not found else "several records"
        click.echo(f"the registry's source has {many} of this id now", err=True)
        return
    for name, value in found[0].values.items():
        if value and name != "record_id":
            click.echo(plain(f"{name:12} {value}"))
