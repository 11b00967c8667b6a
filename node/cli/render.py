"""The terminal's view of a question: provinces as they answer, the verdict, the ranking and the reasons."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from node.findings import Heard, ProvinceState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from rich.console import RenderableType

    from node.cli.texts import Texts
    from node.findings import Concluded, Find

MAX_WIDTH: Final = 100  # wider lines are harder to read, not richer
BAR_CELLS: Final = 30
FOR_CELLS: Final = 24
AGAINST_CELLS: Final = 12
WORTH_A_ROW: Final = 0.001  # provinces below this share one row
WORTH_A_CALL: Final = 0.01  # candidates below this are not worth anybody's time
WORTH_A_WORD: Final = 0.05  # provinces below this are not called possible
EXACT_COUNT: Final = 4  # larger counts come rounded to half octaves
CODES_SHOWN: Final = 2

_OUTCOME_STYLES: Final = {
    "home_found": "bold green",
    "ambiguous": "bold yellow",
    "not_registered": "bold magenta",
    "incomplete": "bold yellow",
}


def make_console(file: TextIO | None = None) -> Console:
    """Return a console that colours terminals only, and keeps within MAX_WIDTH."""
    console = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, MAX_WIDTH)
    return console


class Board:
    """The provinces of one question, each with its state."""

    def __init__(self, texts: Texts, *, case: str, own: str, names: Mapping[str, str]) -> None:
        self._texts = texts
        self._case = case
        self._names = names
        self._labels = {code: texts("own", name=name) if code == own else name for code, name in names.items()}
        self._order = sorted(names, key=lambda code: (code != own, names[code]))
        self._heard = {code: Heard(code, ProvinceState.ASKED, 0) for code in names}

    def heard(self, heard: Heard) -> None:
        """Note what came of one province."""
        self._heard[heard.code] = heard

    def view(self, concluded: Concluded | None = None) -> RenderableType:
        """Return the board as it stands; with the conclusion, its head says how long it took."""
        texts = self._texts
        if concluded is None:
            head = texts("head.asking", case=self._case, count=len(self._names))
        else:
            answered = sum(heard.state is ProvinceState.ANSWERED for heard in self._heard.values())
            head = texts("head.asked", case=self._case, answered=answered, count=len(self._names), ms=concluded.ms)
        table = _plain_table()
        table.add_column(texts("column.province"), min_width=26, no_wrap=True)
        table.add_column(texts("column.state"), min_width=26, overflow="fold")
        table.add_column(texts("column.ms"), justify="right", width=7, no_wrap=True)
        for code in self._order:
            heard = self._heard[code]
            waiting = heard.state is ProvinceState.ASKED
            style = "dim" if waiting else "green" if heard.state is ProvinceState.ANSWERED else "yellow"
            table.add_row(
                self._labels[code], Text(state_text(texts, heard), style=style), "" if waiting else str(heard.ms)
            )
        return Group(Text(head, style="bold"), table, *self._details())

    def _details(self) -> list[RenderableType]:
        texts = self._texts
        lines = []
        for code in self._order:
            heard = self._heard[code]
            if heard.detail:
                detail = f"{self._labels[code]}: {texts.detail(heard.detail.removeprefix(f'{self._names[code]}: '))}"
                lines.append(Padding(Text(detail, style="dim", overflow="fold"), (0, 0, 0, 2)))
        return list(lines)


def state_text(texts: Texts, heard: Heard) -> str:
    """Return a province's state in words."""
    if heard.state is ProvinceState.NEED_MORE:
        return texts("state.need_more", fields=", ".join(texts.field(name) for name in heard.attributes))
    if heard.state is ProvinceState.BUSY and heard.retry_after_s:
        return texts("state.busy_for", seconds=max(1.0, heard.retry_after_s))
    return texts(f"state.{heard.state}")


def conclusion(
    console: Console, texts: Texts, concluded: Concluded, names: Mapping[str, str], own: str
) -> RenderableType:
    """Return the verdict, the ranking, the candidates and the reasons. own: code of the asking province."""
    block = "\N{FULL BLOCK}" if console.encoding.startswith("utf") else "#"
    parts: list[RenderableType] = [Text(), _verdict(texts, concluded, names, own)]
    parts += [Text(), _heading(texts("head.ranking")), _ranking(texts, concluded, names, block)]
    likely = [find for find in concluded.finds if find.probability >= WORTH_A_CALL]
    if likely:
        parts += [Text(), _heading(texts("head.finds")), _finds(texts, likely, names)]
    if concluded.finds:
        best = concluded.finds[0]
        key = "head.why" if best.province == concluded.province else "head.nearest"
        parts += [Text(), _heading(texts(key, province=names[best.province])), _reasons(texts, best, block)]
    return Group(*parts)


def _verdict(texts: Texts, concluded: Concluded, names: Mapping[str, str], own: str) -> RenderableType:
    outcome = concluded.outcome
    home = names[concluded.province] if concluded.province else ""
    title = texts(f"outcome.{outcome}", province=home)
    return Group(
        Rule(Text(title, style=_OUTCOME_STYLES[outcome]), align="left", style="dim", characters="-"),
        *(Text(sentence, overflow="fold") for sentence in verdict_sentences(texts, concluded, names, own)),
    )


def verdict_sentences(texts: Texts, concluded: Concluded, names: Mapping[str, str], own: str) -> list[str]:
    """Say to the caseworker what came out and what to do next."""
    ask = [texts(f"ask.{concluded.ask_for}")] if concluded.ask_for else []
    home = concluded.province
    match concluded.outcome:
        case "home_found" if home:
            key = "say.home_own" if home == own else "say.home_found"
            return [texts(key, percent=texts.percent(concluded.provinces[home]), province=names[home])]
        case "not_registered":
            return [texts("say.not_registered", percent=texts.percent(concluded.none))]
        case "ambiguous":
            return [_possible(texts, concluded, names), *ask]
    silent = [
        f"{names[heard.code]} ({state_text(texts, heard)})"
        for heard in concluded.heard
        if heard.state is not ProvinceState.ANSWERED
    ]
    sentences = [texts("say.incomplete", provinces=", ".join(silent))]
    if concluded.again_until is None:
        again = texts("say.again")
    else:
        again = texts("say.asked_again", until=moment(concluded.again_until), case=concluded.case)
    if home:
        percent = texts.percent(concluded.provinces[home])
        return [*sentences, texts("say.so_far", province=names[home], percent=percent), again]
    so_far = [_possible(texts, concluded, names)] if concluded.provinces else []
    return [*sentences, *so_far, again, *ask]


def _possible(texts: Texts, concluded: Concluded, names: Mapping[str, str]) -> str:
    possible = [
        f"{names[code]} ({texts.percent(probability)})"
        for code, probability in concluded.provinces.items()
        if probability >= WORTH_A_WORD
    ]
    return texts("say.ambiguous", provinces=", ".join(possible)) if possible else texts("say.ambiguous_none")


def moment(iso_time: str) -> str:
    """Return a time as people of this machine's time zone read it, to the minute."""
    return f"{datetime.fromisoformat(iso_time).astimezone():%Y-%m-%d %H:%M %Z}"


def _ranking(texts: Texts, concluded: Concluded, names: Mapping[str, str], block: str) -> RenderableType:
    rows = [(names[code], share, "green") for code, share in concluded.provinces.items() if share >= WORTH_A_ROW]
    rows += [
        (texts("ranking.unanswered", name=names[code]), share, "yellow") for code, share in concluded.unanswered.items()
    ]
    rows.append((texts("ranking.none"), concluded.none, "magenta"))
    rows.sort(key=lambda row: -row[1])
    table = _plain_table(show_header=False)
    table.add_column(min_width=26, max_width=38)
    table.add_column(width=BAR_CELLS, no_wrap=True)
    table.add_column(justify="right", width=8, no_wrap=True)
    for label, share, style in rows:
        table.add_row(label, Text(block * round(BAR_CELLS * share), style=style), texts.percent(share))
    rest = [share for share in concluded.provinces.values() if share < WORTH_A_ROW]
    if rest:
        table.add_row(texts("ranking.rest", count=len(rest)), "", texts.percent(sum(rest)), style="dim")
    return table


def _finds(texts: Texts, finds: list[Find], names: Mapping[str, str]) -> RenderableType:
    table = _plain_table(show_header=False)
    table.add_column(justify="right", width=2, no_wrap=True)
    table.add_column(min_width=20, max_width=26)
    table.add_column(justify="right", width=8, no_wrap=True)
    table.add_column(overflow="fold")
    for place, find in enumerate(finds, start=1):
        lines = [_persons(texts, find.persons)]
        lines += [texts("find.code", code=code) for code in find.handles[:CODES_SHOWN]]
        table.add_row(str(place), names[find.province], texts.percent(find.probability), "\n".join(lines))
    return table


def _persons(texts: Texts, count: int) -> str:
    if count == 1:
        return texts("find.one")
    return texts("find.some" if count <= EXACT_COUNT else "find.many", count=count)


def _reasons(texts: Texts, find: Find, block: str) -> RenderableType:
    """Return weights as bars on a common scale: against to the left of the axis, for to the right."""
    known = [bits for bits in find.bits.values() if bits is not None]
    cells_per_bit = min(
        1.0,
        FOR_CELLS / max([*known, 1.0]),
        AGAINST_CELLS / max([-bits for bits in known] + [1.0]),
    )
    table = _plain_table(show_header=False)
    table.add_column(min_width=16, no_wrap=True)
    table.add_column(justify="right", width=AGAINST_CELLS, no_wrap=True)
    table.add_column(width=1)
    table.add_column(width=FOR_CELLS, no_wrap=True)
    table.add_column(justify="right", width=15, no_wrap=True)
    for name, bits in find.bits.items():
        if bits is None:
            table.add_row(texts.field(name), "", "|", "", Text(texts("known.not"), style="dim"))
            continue
        bar = block * round(cells_per_bit * abs(bits))
        against, speaks_for = (bar, "") if bits < 0 else ("", bar)
        style = "red" if bits < 0 else "green"
        table.add_row(
            texts.field(name),
            Text(against, style="red"),
            "|",
            Text(speaks_for, style="green"),
            Text(texts.bits(bits), style=style),
        )
    table.add_row(texts("why.sum"), "", "|", "", texts.bits(sum(known)), style="bold")
    return table


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _plain_table(*, show_header: bool = True) -> Table:
    return Table(box=None, show_header=show_header, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
