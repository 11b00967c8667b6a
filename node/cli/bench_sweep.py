"""`pulang bench sweep`: what budgets and the sweep monitor stop, and whom they trouble without reason."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from node.cli.progress import progress_bars


@click.command()
@click.option("--persons", type=click.IntRange(min=1000), default=10_000, show_default=True, help="In the registry.")
@click.option("--peers", type=click.IntRange(1, 9), default=9, show_default=True, help="Honest provinces, a year each.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same figures.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for sweep.json.")
def sweep(persons: int, peers: int, seed: int, out: Path | None) -> None:
    """Simulate a year of honest questions, and rogue members that ask within their budget for a month.

    Guard, database and search are the node's own; only the clock is made up. docs/threat-model.md quotes the figures.
    """
    from benchmarks import sweep as core  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.machine import machine  # noqa: PLC0415

    with (
        tempfile.TemporaryDirectory(prefix="pulang-bench-", dir=core.quick_folder()) as folder,
        progress_bars() as bars,
    ):
        task = bars.add_task("questions", total=None)
        ours, theirs = core.run(
            persons, peers, seed, Path(folder), lambda done, total: bars.update(task, completed=done, total=total)
        )
    click.echo(f"machine: {machine()}; {persons:,} persons; seed {seed}")
    click.echo(f"{'a year of':52} {'answered':>9} {'repeats':>8} {'refused':>8}  false alarms")
    for each in ours:
        told = ", ".join(f"{name} {count}" for name, count in each.alarms.items()) or "none"
        click.echo(f"{each.asker:52} {each.answered:>9,} {each.repeats:>8,} {each.refused:>8,}  {told}")
    click.echo(
        f"{'a month of a member that':52} {'answered':>9} {'confirmed':>9} {'alarm after':>16} {'asked':>6} "
        f"{'confirmed':>9}  pattern"
    )
    for each in theirs:
        minutes, asked, confirmed = (
            "never" if value is None else f"{value:,.0f}"
            for value in (each.minutes, each.answered_before, each.confirmed_before)
        )
        click.echo(
            f"{each.asker:52} {each.answered:>9,} {each.confirmed:>9,} {minutes + ' min':>16} {asked:>6} {confirmed:>9}"
            f"  {', '.join(each.alarms) or '-'}"
        )
    if out is not None:
        core.write(out, ours, theirs, {"machine": machine(), "persons": persons, "peers": peers, "seed": seed})
        click.echo(f"sweep.json is in {out}")
