"""`pulang bench`: make populations, measure accuracy and speed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from benchmarks.errors_model import Profile

PROFILES = ("low", "base", "high")


@click.group()
def bench() -> None:
    """Make populations; measure accuracy and speed. Every figure comes with its machine and its seed."""


@bench.command()
@click.option("--persons", type=click.IntRange(min=10), default=200_000, show_default=True, help="Registered persons.")
@click.option("--clients", type=click.IntRange(min=0), default=3_000, show_default=True, help="Clients to be found.")
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="base",
    show_default=True,
    help="How much is wrong or missing in what clients say.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same bytes.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the files.")
def populate(persons: int, clients: int, profile: str, seed: int, out: Path) -> None:
    """Make registries of the ten provinces and clients of known truth. All persons are made up."""
    from benchmarks import populations  # noqa: PLC0415 - polars is not needed for --help

    with _progress() as progress:
        task = progress.add_task("persons", total=persons)
        recipe = populations.Recipe(persons, clients, cast("Profile", profile), seed)
        found = populations.populate(recipe, out, lambda done: progress.advance(task, done))
    for label, value in found.items():
        shown = f"{value:,.0f}" if value > 100 else f"{value:.3f}"
        click.echo(f"{label:32} {shown:>12}")
    click.echo(f"registry.csv, queries.csv, truth.csv and errors.csv are in {out}; seed {seed}, profile {profile}")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
