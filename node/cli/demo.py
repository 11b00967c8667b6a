"""`pulang demo`: ten provinces on this machine, thirty made-up clients, their homes."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from matching.places import PROVINCES
from node.cli.render import MAX_WIDTH, make_console
from node.client_file import client_document
from node.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from benchmarks.demo import DemoAnswer, DemoClient, DemoFolder, DemoPlan, DemoSummary

_MARKS: Final = {
    "right": ("right", "green"),
    "wrong": ("WRONG", "bold red"),
    "missed": ("missed", "red"),
    "ambiguous": ("open", "yellow"),
    "incomplete": ("no answer", "bold red"),
    "failed": ("failed", "bold red"),
}
_SHORT: Final = {
    "18": "Lampung", "31": "DKI", "32": "Jabar", "33": "Jateng", "34": "DIY", "35": "Jatim", "36": "Banten",
    "51": "Bali", "52": "NTB", "53": "NTT",
}  # fmt: skip
_FIELDS: Final = {"birth_date": "date", "birthplace": "place", "mother_name": "mother", "father_name": "father"}


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR", help="Folder to make."
)
@click.option("--persons", type=click.IntRange(min=100), default=100_000, show_default=True, help="In each registry.")
@click.option("--clients", type=click.IntRange(min=1), default=30, show_default=True, help="To be asked about.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same persons.")
@click.option(
    "--provinces", default=",".join(sorted(PROVINCES)), show_default=True, metavar="CODES", help="Which ones."
)
@click.option("--keep-running", is_flag=True, help="Leave the nodes running until Ctrl-C.")
@click.option(
    "--serve", "serve_only", is_flag=True, help="Only start the nodes of the demo in DIR again, until Ctrl-C."
)
def demo(  # noqa: PLR0917 - click hands everything over by name
    out: Path, persons: int, clients: int, seed: int, provinces: str, keep_running: bool, serve_only: bool
) -> int:
    """Make ten provinces on this machine and ask all of them about thirty clients. All persons are made up.

    Registries, certificates and nodes come from the same commands an operator uses; an earlier demo in DIR is replaced.
    """
    from benchmarks.demo import DemoFolder, DemoPlan, build, serving  # noqa: PLC0415 - polars is slow to load

    # Also when told to end in the background: ten nodes must not outlive the demo.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = make_console()
    if not console.is_terminal:
        console.width = MAX_WIDTH  # a log has room
    started = time.monotonic()
    root = out.absolute()
    if serve_only:
        folder = DemoFolder(root)
        with _steps(console) as steps, serving(folder, folder.plan(), steps.show):
            steps.end()
            _say_how(console, folder, None)
            _wait(console)
        return EXIT_OK
    codes = tuple(sorted(code.strip() for code in provinces.split(",")))
    plan = DemoPlan(persons, clients, seed, codes)
    console.print(f"{len(codes)} provinces x {persons:,} made-up persons, seed {seed}, in {root}")
    with contextlib.ExitStack() as stack:
        steps = stack.enter_context(_steps(console))
        folder, chosen = build(root, plan, steps.show)
        stack.enter_context(serving(folder, folder.plan(), steps.show))
        steps.end()
        answers = _ask_all(console, folder, folder.plan(), chosen)
        summary = _print_summary(console, answers, time.monotonic() - started)
        if keep_running:
            _say_how(console, folder, chosen)
            _wait(console)
    if not keep_running:
        _say_how(console, folder, chosen, stopped=True)
    return EXIT_FAILED if summary.unanswered else EXIT_OK


class _Steps:
    """Progress of the building: a bar a step on a terminal, a line a step elsewhere."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._ended = time.monotonic()  # of the step before: a step first shows itself when part of it is done

    def show(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
            if not self._console.is_terminal:
                self._console.print(f"{step} ...")
        self._progress.update(self._tasks[step], completed=done)
        if done == total and not self._console.is_terminal:
            began, self._ended = self._ended, time.monotonic()
            self._console.print(f"{step}: {done:,} of {total:,} in {self._ended - began:.0f} s")

    def end(self) -> None:
        self._progress.stop()


@contextlib.contextmanager
def _steps(console: Console) -> Iterator[_Steps]:
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Steps(console, progress)


# --- questions ------------------------------------------------------------------------------------------------------


def _ask_all(console: Console, folder: DemoFolder, plan: DemoPlan, chosen: Sequence[DemoClient]) -> list[DemoAnswer]:
    """Ask about each client, showing each answer beside the truth as it comes."""
    from benchmarks.demo import ask, warm_up  # noqa: PLC0415 - polars is slow to load

    warm_up(folder, plan)
    answers: list[DemoAnswer] = []
    console.print("\nThe clients are made up; so are their registries. Answers beside the truth:")
    with Live(console=console, auto_refresh=False) as live:
        for each in chosen:
            answers.append(ask(folder, each))
            if console.is_terminal:
                live.update(_table(answers), refresh=True)
        live.update(_table(answers), refresh=True)
    if not console.is_terminal:
        console.print()  # Live ends its line on a terminal only
    return answers


def _table(answers: Sequence[DemoAnswer]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("client as described", width=32, no_wrap=True)
    for name in ("kind", "found in", "truth", "answer"):
        table.add_column(name, no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for answer in answers:
        mark, style = _MARKS[answer.verdict]
        table.add_row(
            _described(answer.asked),
            answer.asked.kind,
            _SHORT[answer.asked.asked_by],
            _province(answer.asked.province),
            _answered(answer),
            f"{answer.seconds * 1000:.0f}",
            Text(mark, style=style),
        )
    return table


def _described(asked: DemoClient) -> str:
    client = asked.client
    return ", ".join(part for part in (client.name, client.sex, client.born, client.birthplace) if part)


def _province(code: str | None) -> str:
    return "nowhere" if code is None else _SHORT[code]


def _answered(answer: DemoAnswer) -> str:
    concluded = answer.concluded
    if concluded is None:
        return "failed"
    if concluded.outcome == "home_found" and concluded.province is not None:
        return f"{_province(concluded.province)} {concluded.provinces[concluded.province]:.0%}"
    if concluded.outcome == "not_registered":
        return f"nowhere {concluded.none:.0%}"
    best = max(concluded.provinces, key=lambda code: concluded.provinces[code], default=None)
    share = concluded.provinces[best] if best is not None else 0.0
    if concluded.none >= share:
        best, share = None, concluded.none
    ask = f", ask {_FIELDS.get(concluded.ask_for, concluded.ask_for)}" if concluded.ask_for else ""
    return f"? {_province(best)} {share:.0%}{ask}"


def _print_summary(console: Console, answers: Sequence[DemoAnswer], elapsed_s: float) -> DemoSummary:
    from benchmarks.demo import summarise  # noqa: PLC0415 - polars is slow to load

    summary = summarise(answers)
    lines = (
        ("right province", f"{summary.home_right}"),
        ("wrong province", f"{summary.home_wrong}"),
        ("not registered, correctly", f"{summary.absent_right}"),
        ("registered, but missed", f"{summary.missed}"),
        ("ambiguous", f"{summary.ambiguous}  (the truth leads in {summary.ambiguous_leads})"),
        ("no answer", f"{summary.unanswered}"),
        ("seconds a question", f"median {summary.median_s:.2f}, worst {summary.worst_s:.2f}"),
        ("whole demo", f"{elapsed_s:.0f} s"),
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, value in lines:
        table.add_row(label, value)
    console.print()
    console.print(Group(Text(f"Summary of {summary.clients} clients", style="bold"), table))
    return summary


def _say_how(
    console: Console, folder: DemoFolder, chosen: Sequence[DemoClient] | None, *, stopped: bool = False
) -> None:
    """Print how to ask by hand, with one of the clients as the example."""
    code = folder.plan().provinces[-1]
    if chosen:
        example = max(chosen, key=lambda each: (each.kind == "old spelling", len(client_document(each.client))))
        code = example.asked_by
        values = client_document(example.client)
    else:
        values = {
            "name": "Djoko Soesilo",
            "sex": "L",
            "born": "1958~3",
            "birthplace": "Kebumen",
            "mother": "Siti Aminah",
        }
    options = " ".join(f"--{key} {shlex.quote(value)}" for key, value in values.items())
    console.print()
    if stopped:
        console.print(f"The nodes are stopped; everything is in {folder.root}. To ask by hand, start them again:")
        console.print(f"  {_program()} demo --out {shlex.quote(str(folder.root))} --serve", soft_wrap=True)
        console.print("and in another terminal:")
    else:
        console.print("The nodes are running. In another terminal:")
    home = shlex.quote(str(folder.home(code).root))
    console.print(f"  {_program()} find --home {home} {options} --purpose self-test --lang en", soft_wrap=True)


def _program() -> str:
    """Return what to type for this command: its name where the PATH leads to one, else its path as it was typed."""
    typed = Path(sys.argv[0])
    return str(typed) if typed.name == "pulang" and shutil.which("pulang") is None else "pulang"


def _wait(console: Console) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        console.print("Ctrl-C stops the nodes.")
        while True:
            time.sleep(3600)
