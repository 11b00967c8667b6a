"""`pulang review`: a caseworker looks at candidates of their own registry, and decides."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from node.cli.options import home_option
from node.cli.terminal import plain
from node.config import load_config
from node.errors import ConfigError, NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node.cli.texts import Texts
    from node.home import NodeHome
    from node.review import Shown
    from node.store import ReviewItem, ReviewState, Store

STATES = ("waiting", "second", "same", "different", "unsure", "broken", "expired")


@click.group()
def review() -> None:
    """Decide about candidates of this province that are neither plainly the client nor plainly somebody else."""


def _operator(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--operator", required=True, metavar="NAME", help="Who reviews; kept as a pseudonym, on this node alone."
    )(function)


def _lang(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--lang",
        type=click.Choice(("id", "en")),
        default="id",
        show_default=True,
        envvar="PULANG_LANG",
        show_envvar=True,
        help="Language: id or en.",
    )(function)


@review.command("next")
@home_option
@_operator
@_lang
@click.option("--item", "number", type=click.IntRange(min=1), help="This one, instead of the next.")
def next_(home: NodeHome, operator: str, lang: str, number: int | None) -> None:
    """Show a candidate that waits beside our own record, and ask whether it is the same person.

    Only on a terminal: the record is read from where the last import read it, shown here, and kept nowhere. Nobody
    else gets the item for 30 minutes. How probable the candidate is, nobody is told.
    """
    from node.cli.review_texts import TEXTS  # noqa: PLC0415 - numba is not needed for --help
    from node.registry_source import recall  # noqa: PLC0415
    from node.review import show  # noqa: PLC0415
    from node.store import ReviewEvent  # noqa: PLC0415

    texts = TEXTS[lang]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(
            "a person's record is shown on a terminal only, never into a file or a pipe",
            hint="run it in a terminal, without redirection",
        )
    config, source = load_config(home), recall(home)
    with _opened(home, operator) as (store, pseudonym):
        item = store.reviews.take(pseudonym, _now(), views_a_day=config.review_views_per_day, number=number)
        if item is None:
            click.echo(texts["none"])
            return
        try:
            with _bar() as progress:
                shown = show(home, source, item, now=_now(), progress=progress)
        except NodeError:
            store.reviews.release(item.number, pseudonym)
            raise
        screen = Console(markup=False, highlight=False, emoji=False)
        screen.set_alt_screen(True)  # what is shown does not stay in the terminal's scrollback
        try:
            _print_item(screen, item, shown, lang)
            decision = _ask(texts, decidable=shown.decidable)
        finally:
            screen.set_alt_screen(False)
        if decision is None:
            assert item.leased_until is not None
            until = f"{item.leased_until:%H:%M}"
            click.echo(plain(texts["skipped"].format(item=item.number, operator=operator, until=until)))
            return
        state = store.reviews.decide(
            item.number, ReviewEvent(decision), pseudonym, _now(), two_person=config.review_two_person
        )
    _say(lang, item.number, state)


@review.command()
@click.argument("number", metavar="ITEM", type=click.IntRange(min=1))
@home_option
@_operator
@_lang
@click.option("--same", "decision", flag_value="same", help="It is the same person.")
@click.option("--different", "decision", flag_value="different", help="They are two persons.")
@click.option("--unsure", "decision", flag_value="unsure", help="It cannot be told.")
def decide(number: int, home: NodeHome, operator: str, lang: str, decision: str | None) -> None:
    """Decide about ITEM, after `pulang review next` has shown it to the same operator."""
    from node.store import ReviewEvent  # noqa: PLC0415 - SQLAlchemy is not needed for --help

    if decision is None:
        raise click.UsageError("say what it is: --same, --different or --unsure")
    two_person = load_config(home).review_two_person
    with _opened(home, operator) as (store, pseudonym):
        state = store.reviews.decide(number, ReviewEvent(decision), pseudonym, _now(), two_person=two_person)
    _say(lang, number, state)


@review.command()
@click.argument("number", metavar="ITEM", type=click.IntRange(min=1))
@home_option
@_operator
@_lang
def undo(number: int, home: NodeHome, operator: str, lang: str) -> None:
    """Take one's own last decision on ITEM back: it waits again. The decision stays on record, and so does this."""
    with _opened(home, operator) as (store, pseudonym):
        state = store.reviews.undo(number, pseudonym, _now())
    _say(lang, number, state)


@review.command("break")
@click.argument("number", metavar="ITEM", type=click.IntRange(min=1))
@home_option
@_operator
@_lang
def break_(number: int, home: NodeHome, operator: str, lang: str) -> None:
    """Break a confirmed link: ITEM turned out to be somebody else."""
    with _opened(home, operator) as (store, pseudonym):
        state = store.reviews.break_link(number, pseudonym, _now())
    _say(lang, number, state)


@review.command()
@click.argument("number", metavar="ITEM", type=click.IntRange(min=1))
@home_option
@_operator
@_lang
def restore(number: int, home: NodeHome, operator: str, lang: str) -> None:
    """Mend a link that was broken: ITEM was the same person after all."""
    with _opened(home, operator) as (store, pseudonym):
        state = store.reviews.restore(number, pseudonym, _now())
    _say(lang, number, state)


@review.command("list")
@home_option
@_lang
@click.option("--state", type=click.Choice(STATES), help="Only those that stand so.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(*, home: NodeHome, lang: str, state: str | None, limit: int, as_json: bool) -> None:
    """List what waits and what was decided: number, state, case, asking province, time. No person's data."""
    from node.cli.review_texts import TEXTS  # noqa: PLC0415 - numba is not needed for --help
    from node.store import ReviewState, open_store  # noqa: PLC0415

    store = open_store(load_config(home).store_url(home))
    try:
        items = store.reviews.items(ReviewState(state) if state else None, limit)
    finally:
        store.close()
    if as_json:
        rows = [
            {
                "item": item.number,
                "state": item.state,
                "case": item.case_reference,
                "peer": item.peer,
                "answered_at": item.answered_at.isoformat(),
            }
            for item in items
        ]
        click.echo(json.dumps(rows))
        return
    for item in items:
        words, at = TEXTS[lang][f"state.{item.state}"], f"{item.answered_at:%Y-%m-%d %H:%M}"
        click.echo(plain(f"{item.number:>6}  {words:26}  {item.peer}  {at}  {item.case_reference}"))
    if not items:
        click.echo(TEXTS[lang]["none"])


@review.command()
@home_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write, for `bench train`."
)
def export(home: NodeHome, out: Path) -> None:
    """Write the standing decisions for training: agreement levels and decision, no ids, no times, sorted.

    A broken link counts as different, a decision taken back not at all.
    """
    from matching.clerical import write_reviews  # noqa: PLC0415 - numba is not needed for --help
    from matching.schema import PERSON_SCHEMA  # noqa: PLC0415
    from node.files import check_free, write_atomic  # noqa: PLC0415
    from node.review import standing_reviews  # noqa: PLC0415
    from node.store import open_store  # noqa: PLC0415

    check_free(out)
    store = open_store(load_config(home).store_url(home))
    try:
        reviews = list(standing_reviews(store))
    finally:
        store.close()
    write_atomic(out, write_reviews(reviews, PERSON_SCHEMA).encode("ascii"))
    counts = Counter(str(each.decision) for each in reviews)
    click.echo(f"{out}: {', '.join(f'{counts[kind]} {kind}' for kind in ('same', 'different', 'unsure'))}")


# --- shared ---------------------------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _opened(home: NodeHome, operator: str) -> Iterator[tuple[Store, bytes]]:
    """Open the node's database, beside a running node or without one; yields it with the operator's pseudonym."""
    from node.local import load_pseudonyms  # noqa: PLC0415 - asyncio and gRPC are not needed for --help
    from node.store import open_store  # noqa: PLC0415

    if not operator.strip():
        raise click.UsageError("--operator: a name is needed")
    url = load_config(home).store_url(home)
    pseudonym = load_pseudonyms(home).named(operator.strip())
    store = open_store(url)
    try:
        yield store, pseudonym
    finally:
        store.close()


def _say(lang: str, number: int, state: ReviewState) -> None:
    from node.cli.review_texts import TEXTS  # noqa: PLC0415

    click.echo(TEXTS[lang]["stands"].format(item=number, state=TEXTS[lang][f"state.{state}"]))


@contextmanager
def _bar() -> Iterator[Callable[[int, int | None], None]]:
    """Show how far the source has been read; on stderr, and gone afterwards."""
    bar = Progress(BarColumn(), TextColumn("{task.percentage:.0f} %"), console=Console(stderr=True), transient=True)
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_item(screen: Console, item: ReviewItem, shown: Shown, lang: str) -> None:
    from matching.places import province_name  # noqa: PLC0415
    from matching.schema import PERSON_SCHEMA, TITLE  # noqa: PLC0415
    from node.cli.review_texts import TEXTS, agreement_words  # noqa: PLC0415
    from node.cli.texts import Texts  # noqa: PLC0415
    from node.mapping import PLACE_AND_DATE  # noqa: PLC0415

    within = {"birthplace": PLACE_AND_DATE, "birth_date": PLACE_AND_DATE, TITLE: "name"}  # fields without a column
    texts, names = TEXTS[lang], Texts(lang)
    peer, at = province_name(item.peer), f"{item.answered_at:%Y-%m-%d %H:%M}"
    screen.print(plain(texts["title"].format(item=item.number, case=item.case_reference, peer=peer, at=at)))
    table = Table()
    table.add_column(texts["column.field"])
    table.add_column(texts["column.own"].format(row=shown.record.row if shown.record else "-"))
    table.add_column(texts["column.agreement"])
    for spec, level, group in zip(PERSON_SCHEMA.fields, item.levels, item.groups.split(","), strict=True):
        own = texts["not_imported"]
        if shown.record is not None:
            key = spec.name if spec.name in shown.record.values else within.get(spec.name, spec.name)
            if key in shown.record.values:
                own = plain(shown.record.values[key] or "").replace("\n", " ") or texts["empty"]
        table.add_row(names.field(spec.name), own, agreement_words(lang, spec, level, asked=bool(group)))
    screen.print(table)
    for note in _notes(texts, names, shown):
        screen.print(note)
    screen.print(texts["why"])


def _notes(texts: dict[str, str], names: Texts, shown: Shown) -> Iterator[str]:
    if shown.record is None:
        yield texts["gone"]
    elif shown.changed:
        yield texts["changed"].format(fields=", ".join(map(names.field, shown.changed)))
    elif shown.changed is None:
        yield texts["unknown_change"]
    if shown.several:
        yield texts["several"]
    if shown.file_differs:
        yield texts["file_differs"]
    if shown.somebody_else:
        yield texts["changed_row"]


def _ask(texts: dict[str, str], *, decidable: bool) -> str | None:
    """Return the decision, None to leave it for later."""
    known = {texts[f"key.{decision}"]: decision for decision in ("same", "different", "unsure")}
    if not decidable:
        known = {key: decision for key, decision in known.items() if decision == "unsure"}
    while True:
        answer = click.prompt(texts["ask" if decidable else "ask_gone"], default="", show_default=False).strip().lower()
        if not answer:
            return None
        if answer in known:
            return known[answer]
        click.echo(texts["not_understood"])
