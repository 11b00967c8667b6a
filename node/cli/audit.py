"""`pulang audit`: check the audit log, read it, hand it over, and erase what is too old to be kept."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.audit_export import (
    ACCESS,
    BREACH,
    PROCESSING,
    access_trail,
    breach_list,
    processing,
    read_heads,
    read_log,
    write_heads,
    write_list,
    write_log,
)
from node.checkpoint import origin_of
from node.cli.options import home_option
from node.cli.progress import progress_bars
from node.cli.terminal import plain
from node.config import load_config
from node.errors import EXIT_DENIED, EXIT_OK
from node.notary import lag
from node.pki.identity import Identity
from node.pki.logkey import load_log_key
from node.store import NO_REQUEST, AuditEntry, Direction, open_store
from node.verification import RETAIN, LogView, OtherHead, verify_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from node.home import NodeHome
    from node.store import LogRow, Store
    from node.verification import Verdict

FILE: Final = click.Path(path_type=Path)
TIME: Final = click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"))
SHOWN_FINDINGS: Final = 20  # the first bad row matters; a log that was renumbered has as many as rows
ERASED: Final = "erased"


@click.group()
def audit() -> None:
    """Check, read, hand over and thin out the audit log."""


@audit.command()
@home_option
@click.option("--file", "exported", type=FILE, metavar="FILE", help="Check this exported log; needs no node.")
@click.option(
    "--against", multiple=True, type=FILE, metavar="FILE", help="A witness's heads, or another copy. May be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(home: NodeHome, exported: Path | None, against: tuple[Path, ...], *, as_json: bool) -> int:
    """Recompute the whole log and compare it with everything that was signed about it.

    Finds rows that were edited, deleted, put in or reordered, and names the first; with a witness's heads also another
    history in place of the one that was seen. Works beside a running node. Exit code 0: whole; 77: changed.
    """
    if exported is not None:
        view = read_log(exported)
        verdict = verify_log(_watched(view, None), _others(view.own, against))
    else:
        own, store = _open(home)
        with closing(store):
            log = store.log
            view = LogView(own, log.rows(), log.checkpoints(), log.cosignatures(), nodes=log.nodes, counts=log.counts)
            beside = home.audit_checkpoint
            published = [OtherHead(str(beside), beside.read_bytes())] if beside.exists() else []
            verdict = verify_log(_watched(view, log.counts()[0]), [*published, *_others(own, against)])
    if as_json:
        click.echo(json.dumps(_verdict_json(verdict)))
    else:
        _print_verdict(verdict)
    return EXIT_OK if verdict.is_whole else EXIT_DENIED


@audit.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(home: NodeHome, *, as_json: bool) -> None:
    """Show how far the log is signed, by whom it is cosigned, and what this node has witnessed."""
    own, store = _open(home)
    with closing(store):
        key = load_log_key(home.log_key, origin_of(own.uri))
        now = lag(store, key.public)
        heads, forks = store.log.witnessed(), store.log.forks()
    value = {
        "rows": now.size,
        "signed": now.signed,
        "signed_at": now.signed_at.isoformat() if now.signed_at else None,
        "cosigned": now.cosigned,
        "log_key": key.public.hex(),
        "witnessed": {each.province: each.size for each in heads},
        "forks": [{"province": each.province, "at": each.at.isoformat()} for each in forks],
    }
    if as_json:
        click.echo(json.dumps(value))
        return
    click.echo(f"rows         {now.size:,}")
    signed_at = f", {now.signed_at:%Y-%m-%d %H:%M} UTC" if now.signed_at else ""
    click.echo(f"signed       {now.signed:,} (lag {now.size - now.signed:,}){signed_at}")
    for code, size in sorted(now.cosigned.items()):
        click.echo(f"cosigned     {size:,} by province {code} (lag {now.size - size:,})")
    if not now.cosigned:
        click.echo("cosigned     by nobody yet")
    click.echo(f"log key      {key.public.hex()}")
    for each in heads:
        click.echo(f"witnessed    {each.size:,} rows of province {each.province}, {each.at:%Y-%m-%d %H:%M} UTC")
    for fork in forks:
        click.echo(f"FORK         province {fork.province} has shown two histories, {fork.at:%Y-%m-%d %H:%M} UTC")


@audit.command()
@home_option
@click.option("--case", metavar="REF", help="Only this case.")
@click.option("--peer", metavar="CODE", help="Only this province.")
@click.option("--since", type=TIME, metavar="TIME", help="From this time on (UTC).")
@click.option("--until", type=TIME, metavar="TIME", help="Before this time (UTC).")
@click.option("--limit", default=1000, show_default=True, help="At most so many rows, the newest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
def show(
    home: NodeHome,
    *,
    case: str | None,
    peer: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show rows of the log."""
    _, store = _open(home)
    with closing(store):
        rows = list(store.log.rows(case=case, peer=peer, after=_utc(since), before=_utc(until)))[-limit:]
    for row in rows:
        click.echo(json.dumps(_row_json(row)) if as_json else plain(_row_text(row)))
    if not rows and not as_json:
        click.echo("no rows")


@audit.command()
@home_option
@click.argument("kind", type=click.Choice(["log", "processing", "case", "breach"]), metavar="KIND")
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Where it goes; its checksum to FILE.sha256.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--case", metavar="REF", help="With KIND case: which case.")
@click.option("--peer", metavar="CODE", help="With KIND breach: the province that was told too much.")
@click.option("--since", type=TIME, metavar="TIME", help="From this time on (UTC).")
@click.option("--until", type=TIME, metavar="TIME", help="Before this time (UTC).")
def export(
    home: NodeHome,
    *,
    kind: str,
    out: Path,
    form: str,
    case: str | None,
    peer: str | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Write the log, or a list that UU 27/2022 (PDP) asks for.

    KIND is log (everything `pulang audit verify --file` needs), processing (article 31), case (article 32: who asked
    about one case) or breach (article 46: what a province was told).
    """
    if (kind == "case") != (case is not None):
        raise click.UsageError("--case belongs to KIND case, and is needed there")
    if (kind == "breach") != (peer is not None):
        raise click.UsageError("--peer belongs to KIND breach, and is needed there")
    if kind == "log" and (form == "csv" or since or until):
        raise click.UsageError("the whole log is JSON Lines, from its first row to its last")
    own, store = _open(home)
    after, before = _utc(since), _utc(until)
    with closing(store):
        if kind == "log":
            count, digest = write_log(out, store, own, _now())
        else:
            rows, columns = _list(store, kind, case=case or "", peer=peer or "", after=after, before=before)
            count, digest = write_list(out, rows, columns, as_csv=form == "csv")
    click.echo(f"wrote {out}: {count:,} rows, SHA-256 {digest}")


@audit.command()
@home_option
@click.option("--out", required=True, type=FILE, metavar="FILE", help="Where they go; the checksum to FILE.sha256.")
def heads(home: NodeHome, out: Path) -> None:
    """Write the heads of other provinces' logs that this node has cosigned, and evidence of forks.

    Whoever checks such a log runs `pulang audit verify --against FILE`.
    """
    own, store = _open(home)
    with closing(store):
        count, digest = write_heads(out, store, own, _now())
    click.echo(f"wrote {out}: {count} logs, SHA-256 {digest}")


@audit.command()
@home_option
@click.option("--older-than", required=True, type=click.IntRange(min=1), metavar="DAYS", help="Age of what goes.")
@click.option("--erase", is_flag=True, help="Do it. Without: only say what would be erased.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def retain(home: NodeHome, older_than: int, *, erase: bool, as_json: bool) -> None:
    """Erase case, operator, nonce and reason of old rows, with the salts of their commitments.

    The rows stay, and so does the proof that none was changed; what they were about can be found out no more. A row of
    its own says what was erased.
    """
    own, store = _open(home)
    now = _now()
    before = now - timedelta(days=older_than)

    def record(count: int, last: int) -> AuditEntry:
        return AuditEntry(
            at=now,
            direction=Direction.OWN,
            peer=own.province,
            method=RETAIN,
            outcome=ERASED,
            request_sha256=NO_REQUEST,
            reason=f"rows before {before:%Y-%m-%d %H:%M} UTC",
            calls=count,
            concerns=last,
        )

    with closing(store):
        count = store.erase_audit(before, record) if erase else store.log.erasable_before(before)[0]
    if as_json:
        click.echo(json.dumps({"rows": count, "before": before.isoformat(), "erased": erase}))
    else:
        verb = "erased" if erase else "would erase"
        click.echo(f"{verb} case, operator, nonce and reason of {count:,} rows before {before:%Y-%m-%d %H:%M} UTC")
        if not erase and count:
            click.echo("next: the same with --erase")


def _open(home: NodeHome) -> tuple[Identity, Store]:
    config = load_config(home)
    return Identity(config.federation, config.province), open_store(config.store_url(home))


def _list(
    store: Store, kind: str, *, case: str, peer: str, after: datetime | None, before: datetime | None
) -> tuple[Iterable[dict[str, Any]], tuple[str, ...]]:
    match kind:
        case "processing":
            return processing(store.log.rows(after=after, before=before)), PROCESSING
        case "case":
            return access_trail(store, case), ACCESS
        case _:
            return breach_list(store, peer, after, before), BREACH


def _others(own: Identity, against: tuple[Path, ...]) -> list[OtherHead]:
    return [head for path in against for head in read_heads(path, own)]


def _watched(view: LogView, total: int | None) -> LogView:
    """Return the view with a progress bar over its rows."""

    def rows() -> Iterator[LogRow]:
        with progress_bars() as bars:
            task = bars.add_task("rows", total=total)
            for row in view.rows:
                yield row
                bars.advance(task)

    return LogView(view.own, rows(), view.checkpoints, view.cosignatures, view.nodes, view.counts)


def _print_verdict(verdict: Verdict) -> None:
    click.echo(f"rows         {verdict.rows:,}, of which {verdict.erased:,} erased by retention")
    click.echo(f"signed       {verdict.signed:,}")
    for code, size in sorted(verdict.cosigned.items()):
        click.echo(f"cosigned     {size:,} by province {code}")
    if verdict.unfinished:
        click.echo(f"unfinished   {verdict.unfinished:,} questions without an outcome: being answered, or interrupted")
    if verdict.is_whole:
        click.echo("the log is whole: every row is as it was written")
        if not verdict.cosigned:
            click.echo("but no other province has signed for it: who owns the machine could have replaced all of it")
        return
    first = next((each.row for each in verdict.findings if each.row is not None), None)
    click.echo("THE LOG HAS BEEN CHANGED" + (f"; first bad row: {first}" if first is not None else ""))
    for finding in verdict.findings[:SHOWN_FINDINGS]:
        click.echo(plain(f"  {finding.text}"))
    if len(verdict.findings) > SHOWN_FINDINGS:
        click.echo(f"  and {len(verdict.findings) - SHOWN_FINDINGS:,} more")
    click.echo(
        "hint: stop the node, keep the database and its -wal as they are, and call whoever investigates", err=True
    )


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    first = next((each.row for each in verdict.findings if each.row is not None), None)
    return {
        "whole": verdict.is_whole,
        "rows": verdict.rows,
        "root": verdict.root.hex(),
        "erased": verdict.erased,
        "unfinished": verdict.unfinished,
        "signed": verdict.signed,
        "cosigned": verdict.cosigned,
        "first_bad_row": first,
        "findings": [{"row": each.row, "text": each.text} for each in verdict.findings],
    }


def _row_json(row: LogRow) -> dict[str, Any]:
    return {
        name: value.hex() if isinstance(value, bytes) else value.isoformat() if isinstance(value, datetime) else value
        for name in AuditEntry.__slots__
        for value in (getattr(row.entry, name),)
    }


def _row_text(row: LogRow) -> str:
    entry = row.entry
    parts = [
        f"{entry.number:>7}",
        f"{entry.at:%Y-%m-%d %H:%M:%S}",
        f"{entry.direction:8}",
        entry.peer,
        f"{entry.outcome:12}",
        entry.case_reference or "-",
        entry.purpose or "-",
    ]
    if entry.calls > 1:
        parts.append(f"{entry.calls:,} times")
    if entry.reason:
        parts.append(entry.reason)
    return "  ".join(parts)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC)
