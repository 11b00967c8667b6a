"""`pulang bench memory`: one node's memory over very many questions."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from matching.places import PROVINCES
from node.cli.progress import progress_bars, steps_shown
from node.files import PUBLIC, write_atomic


@click.command(name="memory")
@click.option(
    "--demo",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="A demo made before; its nodes' budgets are raised.",
)
@click.option("--persons", type=click.IntRange(min=100), default=100_000, show_default=True, help="In the registry.")
@click.option("--questions", type=click.IntRange(min=1000), default=100_000, show_default=True, help="All different.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for memory.json.")
def memory_command(folder: Path | None, persons: int, questions: int, seed: int, out: Path | None) -> None:
    """Ask one node very many questions with the credentials of nine others, and watch its memory.

    All questions differ, under budgets that do not end them. Memory is looked at from 5 % of the questions on, when
    pools and caches are full; what the node maps (its index) is counted apart. 100,000 questions take half an hour;
    Ctrl-C keeps what is done.
    """
    from benchmarks import demo, load, memory  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.machine import machine  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, progress_bars() as progress:
        show = steps_shown(progress)
        if folder is None:
            plan = demo.DemoPlan(persons, load.PLAN_CLIENTS, seed, tuple(sorted(PROVINCES)))
            made, _ = demo.build(Path(temporary) / "demo", plan, show)
        else:
            made = demo.DemoFolder(folder.absolute())
        plan = made.plan()
        load.give_room(made, plan)
        alone = replace(plan, provinces=plan.provinces[:1])
        with demo.serving(made, alone, show) as pids:
            task = progress.add_task("questions", total=questions)
            advance = functools.partial(progress.advance, task)
            found = memory.measure(made, plan, pids[alone.provinces[0]], questions, advance)
    click.echo(
        f"machine: {machine()}; seed {plan.seed}; one node of {plan.persons:,} persons, "
        f"{found.asked[-1]:,} of {questions:,} questions"
    )
    click.echo(f"{'questions':>10} {'own MiB':>8} {'mapped MiB':>11}")
    for place in sorted({*range(0, len(found.asked), max(1, len(found.asked) // 10)), len(found.asked) - 1}):
        click.echo(f"{found.asked[place]:10,} {found.own[place] / 2**20:8.1f} {found.mapped[place] / 2**20:11.1f}")
    click.echo(
        f"last over first {found.last / found.first:.3f}; {found.slope:.0f} bytes a question in the second half; "
        "not answered: " + (", ".join(f"{count:,} {name}" for name, count in sorted(found.others.items())) or "none")
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        report = {"machine": machine(), "seed": plan.seed, "persons": plan.persons, **asdict(found)}
        write_atomic(out / "memory.json", json.dumps(report, indent=1).encode(), mode=PUBLIC, replace=True)
