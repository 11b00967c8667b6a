"""`pulang case`: what has become of a question since, and an end to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from matching.places import PROVINCES
from node.cases import BY_PEOPLE
from node.cli.options import home_option, language_option
from node.cli.render import conclusion, make_console, moment
from node.errors import EXIT_OK
from node.findings import Concluded, from_json
from node.local_client import NodeNotRunningError, call_node

if TYPE_CHECKING:
    from rich.console import Console

    from node.cli.texts import Texts
    from node.home import NodeHome

JSON_FORMAT: Final = "pulang-case-1"


@click.group()
def case() -> None:
    """Look at cases, close them, reopen them."""


@case.command("list")
@click.option("--all", "closed", is_flag=True, help="Closed ones as well.")
@click.option("--json", "as_document", is_flag=True, help="For programs.")
@language_option
@home_option
def list_cases(home: NodeHome, texts: Texts, *, closed: bool, as_document: bool) -> int:
    """List the newest cases, what came of them, and whose answer is still waited for. Works without a running node."""
    document = _read(home, "case_list", closed=closed)
    if as_document:
        return _print_json(document)
    if not document["cases"]:
        click.echo(texts("case.none"))
        return EXIT_OK
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    for key in ("case", "asked", "outcome", "answered", "next"):
        table.add_column(texts(f"case.column.{key}"), overflow="fold")
    table.add_column()
    for each in document["cases"]:
        table.add_row(
            each["case"],
            moment(each["asked_at"]),
            _outcome(texts, each),
            f"{each['answered']}/{each['asked']}",
            moment(each["next_try_at"]) if each["next_try_at"] else "",
            Text(texts("case.new"), style="bold yellow") if each["news"] else "",
        )
    make_console().print(table)
    return EXIT_OK


@case.command()
@click.argument("case", metavar="CASE")
@click.option("--json", "as_document", is_flag=True, help="For programs.")
@language_option
@home_option
def show(home: NodeHome, texts: Texts, case: str, *, as_document: bool) -> int:
    """Show a case: every province, the result as it stands now, and its history. Works without a running node."""
    document = _read(home, "case_show", case=case)
    if as_document:
        return _print_json(document)
    _print_case(make_console(), texts, document)
    return EXIT_OK


@case.command()
@click.argument("case", metavar="CASE")
@click.option("--reason", required=True, type=click.Choice([str(reason) for reason in BY_PEOPLE]), help="Why.")
@click.option("--json", "as_document", is_flag=True, help="For programs.")
@language_option
@home_option
def close(home: NodeHome, texts: Texts, case: str, reason: str, *, as_document: bool) -> int:
    """Close a case: nobody is asked about it again, and what was asked is erased after a week."""
    document = call_node(home, "case_close", case=case, reason=reason)
    if as_document:
        return _print_json(document)
    click.echo(_head(texts, document))
    return EXIT_OK


@case.command()
@click.argument("case", metavar="CASE")
@click.option("--json", "as_document", is_flag=True, help="For programs.")
@language_option
@home_option
def reopen(home: NodeHome, texts: Texts, case: str, *, as_document: bool) -> int:
    """Ask again, at once and for days, whoever has not answered; a closed case is opened."""
    document = call_node(home, "case_reopen", case=case)
    if as_document:
        return _print_json(document)
    click.echo(texts("case.reopened", case=document["case"], until=moment(document["again_until"])))
    return EXIT_OK


def _read(home: NodeHome, command: str, **arguments: str | bool) -> dict[str, Any]:
    """Ask the running node, else read its database: whoever may do the one may do the other."""
    try:
        return call_node(home, command, **arguments)
    except NodeNotRunningError:
        # Imported here: with a running node, the command line needs neither database nor linkage core.
        from node.config import load_config  # noqa: PLC0415
        from node.local_commands import obey_about_cases  # noqa: PLC0415
        from node.runtime import open_casebook  # noqa: PLC0415
        from node.store import open_store  # noqa: PLC0415

        config = load_config(home)
        store = open_store(config.store_url(home))
        try:
            book = open_casebook(home, config, store, lambda: datetime.now(UTC))
            return obey_about_cases(book, {"command": command, **arguments})
        finally:
            store.close()


def _print_case(console: Console, texts: Texts, document: dict[str, Any]) -> None:
    console.print(Text(_head(texts, document), style="bold"))
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(texts("column.province"), min_width=22, no_wrap=True)
    table.add_column(texts("column.state"), min_width=20, overflow="fold")
    table.add_column(texts("case.column.attempts"), justify="right")
    table.add_column(texts("case.column.next_try"))
    for each in document["provinces"]:
        answered = each["answered_at"] is not None
        waits = each["next_try_at"] is not None and document["closed_at"] is None
        table.add_row(
            _name(each["code"]),
            Text(_state(texts, each), style="green" if answered else "yellow"),
            str(each["attempts"]),
            moment(each["next_try_at"]) if waits else "",
        )
    console.print(table)
    result = from_json(document["result"]) if document["result"] else None
    if isinstance(result, Concluded):
        names = {heard.code: _name(heard.code) for heard in result.heard}
        console.print(conclusion(console, texts, result, names, ""))
    elif document["outcome"]:
        console.print(texts("case.erased", outcome=_outcome(texts, document)))
    if document["closed_at"] is None and document["again_until"] and document["outcome"] == "incomplete":
        key = "case.until" if document["waiting_for"] else "case.over"
        console.print("\n" + texts(key, until=moment(document["again_until"]), case=document["case"]))
    console.print(Text("\n" + texts("case.history"), style="bold"))
    for event in document["history"]:
        new = f"  {texts('case.new')}" if event["new"] else ""
        console.print(f"  {moment(event['at'])}  {_event(texts, event)}{new}")


def _head(texts: Texts, document: dict[str, Any]) -> str:
    if document["closed_at"] is not None:
        reason = texts(f"case.reason.{document['closed_reason']}")
        return texts("case.closed", case=document["case"], closed=moment(document["closed_at"]), reason=reason)
    return texts(
        "case.open",
        case=document["case"],
        asked=moment(document["asked_at"]),
        answered=document["answered"],
        count=document["asked"],
    )


def _state(texts: Texts, province: dict[str, Any]) -> str:
    if province["state"] in {"need_more", "busy"}:  # their texts want values that only a fresh answer has
        return texts(f"state.{province['state']}", fields="...")
    return texts(f"state.{province['state']}")


def _event(texts: Texts, event: dict[str, Any]) -> str:
    detail = event["detail"] or ""
    if event["event"] == "closed":
        detail = texts(f"case.reason.{detail}")
    elif detail in PROVINCES:
        detail = PROVINCES[detail]
    return texts(f"case.event.{event['event']}", detail=detail, outcome=_outcome(texts, event))


def _outcome(texts: Texts, document: dict[str, Any]) -> str:
    if document["outcome"] is None:
        return texts("case.not_yet")
    return texts(f"case.outcome.{document['outcome']}", province=_name(document["province"] or ""))


def _name(code: str) -> str:
    return PROVINCES.get(code, code)


def _print_json(document: dict[str, Any]) -> int:
    click.echo(json.dumps({"format": JSON_FORMAT, **document}, ensure_ascii=False, indent=2))
    return EXIT_OK
