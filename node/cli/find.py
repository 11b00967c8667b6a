"""`pulang find`: a caseworker describes a client and reads which province is home."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.live import Live

from matching.errors import FieldValueError, MatchingError
from node.cli import understanding
from node.cli.options import home_option
from node.cli.render import Board, conclusion, make_console
from node.cli.terminal import plain
from node.cli.texts import LANGUAGES, Texts
from node.client_file import KEYS, client_from, parse_client, read_client_file
from node.errors import (
    EXIT_AMBIGUOUS,
    EXIT_INCOMPLETE,
    EXIT_NOT_REGISTERED,
    EXIT_OK,
    EXIT_STOPPED,
    NodeError,
    exit_code,
    hint_of,
)
from node.findings import Accepted, Concluded, Failed, Heard, Warned, as_json
from node.local_client import DEFAULT_TIMEOUT_S, MAX_REQUEST_BYTES, LocalRequest, ask_node
from node.messages import CASE_REFERENCE_PATTERN, MAX_DEADLINE_S, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from matching.question import Client
    from node.findings import Finding
    from node.home import NodeHome

JSON_FORMAT: Final = "pulang-find-1"
OUTCOME_CODES: Final[dict[str, int]] = {
    "home_found": EXIT_OK,
    "ambiguous": EXIT_AMBIGUOUS,
    "not_registered": EXIT_NOT_REGISTERED,
    "incomplete": EXIT_INCOMPLETE,
}
UNENDED: Final = "ask_node ends with a conclusion, a failure or an error"
_FILL: Final[dict[str, dict[str, object]]] = {
    "help.source": {"keys": ", ".join(KEYS)},
    "help.timeout": {"most": MAX_DEADLINE_S},
}
_NO: Final = frozenset({"t", "tidak", "n", "no"})
_YES: Final = frozenset({"", "y", "ya", "yes"})


class _LocalisedCommand(click.Command):
    """Shows its help in the language asked for, and never repeats what it cannot read."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say what is wrong with a command line without its words: `--name Siti Aminah` lacks its quotes."""
        try:
            return super().parse_args(ctx, args)
        except (click.NoSuchOption, click.BadOptionUsage):
            raise  # they name the option alone
        except click.UsageError as error:
            texts = Texts(ctx.params.get("lang") or LANGUAGES[0])
            option = error.param if isinstance(error, click.BadParameter) else None
            if option is None:
                raise click.UsageError(texts("usage.words"), ctx) from None
            form = option.make_metavar(ctx)
            raise click.UsageError(texts("usage.value", option=option.opts[0], form=form), ctx) from None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Let `--help` wait its turn behind the eager `--lang`, wherever either stands."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.is_eager = False
        return option

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help in the language of `--lang`."""
        texts = Texts(ctx.params.get("lang") or LANGUAGES[0])
        self.help, self.epilog = texts("help"), texts("help.exit")
        for parameter in self.get_params(ctx):
            key = f"help.{parameter.name}"
            if isinstance(parameter, click.Option) and texts.knows(key):
                parameter.help = texts(key, **_FILL.get(key, {}))
        super().format_help(ctx, formatter)


@click.command(cls=_LocalisedCommand)
@click.option("--name", metavar="TEXT")
@click.option("--sex", metavar="L|P")
@click.option("--born", metavar="TEXT")
@click.option("--birthplace", metavar="TEXT")
@click.option("--mother", metavar="TEXT")
@click.option("--father", metavar="TEXT")
@click.option("--from", "source", metavar="FILE|-")
@click.option("--case", metavar="REF")
@click.option(
    "--purpose",
    type=click.Choice([purpose.replace("_", "-") for purpose in Purpose]),
    default=Purpose.RETURN_HOME.replace("_", "-"),
    show_default=True,
)
@click.option("--timeout", type=float, metavar="SECONDS", default=DEFAULT_TIMEOUT_S, show_default=True)
@click.option("--json", "as_document", is_flag=True)
@click.option(
    "--lang", type=click.Choice(LANGUAGES), default=LANGUAGES[0], envvar="PULANG_LANG", show_default=True,
    show_envvar=True, is_eager=True,
)  # fmt: skip
@home_option
def find(  # noqa: PLR0917 - click hands everything over by name
    home: NodeHome, lang: str, source: str | None, case: str | None, purpose: str, timeout: float, as_document: bool,
    **fields: str | None,
) -> int:  # fmt: skip
    """Find a client's home province."""  # replaced by the text of the language
    texts = Texts(lang)
    if not 0 < timeout <= MAX_DEADLINE_S:
        raise click.UsageError(texts("usage.timeout", most=MAX_DEADLINE_S))
    if case is not None and not re.fullmatch(CASE_REFERENCE_PATTERN, case):
        raise click.UsageError(texts("usage.case"))
    try:
        client = _client(texts, source, {key: text for key, text in fields.items() if text is not None})
        request = LocalRequest(client, Purpose(purpose.replace("-", "_")), case, timeout)
        events = ask_node(home, request)
        return _tell_json(texts, events, home) if as_document else _tell_person(texts, events, home)
    except click.Abort:  # at a prompt: from the first event on, Ctrl-C is a KeyboardInterrupt
        _say("\n" + texts("prompt.cancelled"))
        return EXIT_STOPPED
    except (NodeError, MatchingError) as error:
        code = exit_code(error)
        if code is None:
            raise
        failed = Failed(
            type(error).__name__, str(error), hint_of(error), code,
            field=getattr(error, "field", None), reason=getattr(error, "reason", None),
        )  # fmt: skip
        return _fail(texts, failed, home, as_document=as_document)


# --- the client -----------------------------------------------------------------------------------------------------


def _client(texts: Texts, source: str | None, fields: dict[str, str]) -> Client:
    if source is not None and fields:
        raise click.UsageError(texts("usage.both"))
    if source == "-":
        return parse_client(sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1))
    if source is not None:
        return read_client_file(Path(source))
    if not fields:
        if not sys.stdin.isatty():
            raise click.UsageError(texts("usage.nothing"))
        return _ask_caseworker(texts, datetime.now(UTC))
    if not fields.get("name", "").strip():
        raise click.UsageError(texts("usage.name"))
    return client_from(fields)


def _ask_caseworker(texts: Texts, now: datetime) -> Client:
    """Ask field by field, show what was understood, and return once the caseworker agrees to send it."""
    _say(texts("prompt.intro"))
    readers: dict[str, Callable[[str], str]] = {
        "name": lambda said: understanding.name(texts, said),
        "sex": lambda said: understanding.sex(texts, said),
        "born": lambda said: understanding.born(texts, said, now.date()),
        "birthplace": lambda said: understanding.place(texts, said),
        "mother": lambda said: understanding.name(texts, said),
        "father": lambda said: understanding.name(texts, said),
    }
    said: dict[str, str] = {}
    understood: dict[str, str] = {}
    for key, read in readers.items():
        said[key], understood[key] = _ask_field(texts, key, read)
    _say("\n" + texts("prompt.understood"))
    width = max(len(texts.field(KEYS[key])) for key in readers if key != "born")
    for key, text in understood.items():
        _say(f"  {texts.field(_field_of(key)):<{width}}  {text}")
    if not _agrees(texts):
        raise click.Abort
    return client_from(said)


def _ask_field(texts: Texts, key: str, read: Callable[[str], str]) -> tuple[str, str]:
    """Ask for one field until it is empty or can be used; return it as said and as understood."""
    while True:
        said = click.prompt(texts(f"prompt.{_field_of(key)}"), default="", show_default=False, err=True).strip()
        if not said and key == "name":
            _say("  " + texts("prompt.name_needed"))
            continue
        if not said:
            return "", texts("known.not")
        try:
            client_from({"name": "-", key: said})  # the limits every way of asking has
            return said, read(said)
        except FieldValueError as error:
            _say("  " + texts.reason(error.reason))
        except NodeError as error:
            _say(f"  {error}")


def _agrees(texts: Texts) -> bool:
    question = f"{texts('prompt.send')} [{texts('prompt.yes').upper()}/{texts('prompt.no')}]"
    while True:
        reply = click.prompt(question, default="", show_default=False, err=True).strip().lower()
        if reply in _YES or reply in _NO:
            return reply in _YES


def _field_of(key: str) -> str:
    return "birth_date" if key == "born" else KEYS[key]


def _say(text: str) -> None:
    click.echo(plain(text), err=True)


# --- the answer -----------------------------------------------------------------------------------------------------


def _tell_person(texts: Texts, events: Iterator[Finding], home: NodeHome) -> int:
    console = make_console()
    accepted: Accepted | None = None
    for event in events:
        match event:
            case Warned():
                _say(f"{texts('warning')}: {texts.field(event.field)}: {_warning(texts, event)}")
            case Accepted():
                accepted = event
                break
            case Failed():
                return _fail(texts, event, home, as_document=False)
    assert accepted is not None
    board = Board(texts, case=accepted.case, own=accepted.province, names=accepted.provinces)
    ended = _watch(console, board, events)
    if isinstance(ended, Failed):
        return _fail(texts, ended, home, as_document=False)
    if not console.is_terminal:
        console.print()  # Live ends its line on a terminal only
    console.print(conclusion(console, texts, ended, accepted.provinces, accepted.province))
    return OUTCOME_CODES[ended.outcome]


def _watch(console: Console, board: Board, events: Iterator[Finding]) -> Concluded | Failed:
    """Show the provinces as they answer; where there is no terminal, Live prints the last state once."""
    with Live(board.view(), console=console, auto_refresh=False) as live:
        for event in events:
            match event:
                case Heard():
                    board.heard(event)
                    live.update(board.view(), refresh=True)
                case Concluded():
                    live.update(board.view(event), refresh=True)
                    return event
                case Failed():
                    return event
    raise AssertionError(UNENDED)


def _tell_json(texts: Texts, events: Iterator[Finding], home: NodeHome) -> int:
    warnings: list[dict[str, Any]] = []
    asked: dict[str, Any] = {}
    for event in events:
        match event:
            case Warned():
                warnings.append(asdict(event))
            case Accepted():
                asked = {"asked_by": event.province, "names": event.provinces}
            case Failed():
                return _fail(texts, event, home, as_document=True)
            case Concluded():
                body = as_json(event)
                del body["event"]
                _print_json({**body, **asked, "warnings": warnings})
                return OUTCOME_CODES[event.outcome]
    raise AssertionError(UNENDED)


def _fail(texts: Texts, failed: Failed, home: NodeHome, *, as_document: bool) -> int:
    if as_document:
        body = as_json(failed)
        del body["event"]
        _print_json({"outcome": "failed", "error": body})
    if failed.field is not None and failed.reason is not None:
        message = texts("error.field", field=texts.field(failed.field), reason=texts.reason(failed.reason))
        hint: str | None = texts("hint.field")
    elif texts.knows(f"error.{failed.kind}"):
        message = texts(f"error.{failed.kind}", home=home.root)
        hint = texts(f"hint.{failed.kind}", home=home.root)
    else:
        message, hint = failed.message, failed.hint
    _say(f"pulang: {message}")
    if hint:
        _say(f"{texts('hint')}: {hint}")
    return failed.exit


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps({"format": JSON_FORMAT, **document}, ensure_ascii=False, indent=2))


def _warning(texts: Texts, warned: Warned) -> str:
    key = f"warning.{warned.reason}"
    return texts(key) if texts.knows(key) else warned.reason
