"""`pulang bench leakage`: what our own encodings give away, measured by attacking them."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from node.cli.progress import progress_bars


@click.command()
@click.option("--persons", type=click.IntRange(min=500), default=10_000, show_default=True, help="In the registry.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same persons.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for leakage.json.")
def leakage(persons: int, seed: int, out: Path | None) -> None:
    """Attack a made-up registry's encodings as a listener, a thief, a key holder and a curious member would.

    The attacks are simple ones: whoever tries harder learns more. docs/threat-model.md quotes the figures.
    """
    from benchmarks import leakage as core  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.machine import machine  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, progress_bars() as progress:
        task = progress.add_task("attacks", total=len(core.ATTACKS))
        found = core.attack(persons, seed, Path(temporary), datetime.now(UTC), lambda: progress.advance(task))
    click.echo(f"machine: {machine()}; {persons:,} persons; seed {seed}")
    attacker = ""
    for finding in found:
        if finding.attacker != attacker:
            attacker = finding.attacker
            click.echo(attacker)
        value = f"{finding.value:.3f}" if finding.unit == "share" else f"{finding.value:,.1f} {finding.unit}"
        note = f"  ({finding.note})" if finding.note else ""
        click.echo(f"  {finding.what:76} {value}{note}")
    if out is not None:
        core.write(out, found, {"machine": machine(), "persons": persons, "seed": seed})
        click.echo(f"leakage.json is in {out}")
