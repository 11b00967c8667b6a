"""`pulang bench fuzz`: broken inputs for every parser that faces a peer or a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.fuzz import HANG_S, NAMES, fuzz
from benchmarks.machine import machine
from node.cli.progress import progress_bars
from node.errors import EXIT_DATA, EXIT_OK
from node.files import PUBLIC, write_atomic


@click.command(name="fuzz")
@click.option("--parser", "parsers", multiple=True, type=click.Choice(NAMES), help="Only these.  [default: all]")
@click.option("--runs", type=click.IntRange(min=1), default=10_000, show_default=True, help="Inputs for each parser.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same inputs, but for keys."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for logs and broken inputs."
)
def fuzz_command(parsers: tuple[str, ...], runs: int, seed: int, out: Path) -> int:
    """Feed broken inputs to every parser that faces a peer or a file, guided by the code they reach.

    Some are changed blindly, some by their form, so that what lies behind the form is reached, too. Anything but a
    documented refusal is a crash; anything over ten seconds a hang; the input is kept. Exit code 65 when there is one.
    A million runs take minutes to an hour, by parser. Ctrl-C keeps the table of what is done.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = []
    click.echo(f"machine: {machine()}; seed {seed}; a hang is over {HANG_S} s")
    click.echo(f"{'parser':14}{'executions':>12}{'branches':>10}{'crashes':>9}{'hangs':>7}{'s':>8}")
    with progress_bars() as progress:
        task = progress.add_task("parsers", total=len(parsers or NAMES))
        for name in parsers or NAMES:
            each = fuzz(name, runs, seed, out)
            found.append(each)
            progress.advance(task)
            progress.console.print(
                f"{each.parser:14}{each.executions:12,}{each.covered:10,}{each.crashes:9}{each.hangs:7}{each.seconds:8.0f}"
                + (f"  {each.artifact}" if each.artifact else ""),
                highlight=False,
                soft_wrap=True,
            )
            report = {"machine": machine(), "seed": seed, "parsers": [asdict(item) for item in found]}
            write_atomic(out / "fuzz.json", json.dumps(report, indent=1).encode(), mode=PUBLIC, replace=True)
    return EXIT_DATA if any(each.crashes or each.hangs for each in found) else EXIT_OK
