"""`pulang bench faults`: every fault of the table made for real, and what came of it."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.cli.progress import progress_bars
from node.errors import EXIT_DATA, EXIT_OK, EXIT_STOPPED
from node.files import PUBLIC, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.faults.campaign import Outcome
    from benchmarks.faults.catalogue import Fault

_COLUMNS: Final = ("wrong", "false none", "lost", "doubled", "unaudited", "head off", "budget off", "promise broken")
_SHORT: Final = ("wrong", "none", "lost", "dbl", "unaud", "head", "budget", "promise")

MAX_SHOWN: Final = 20  # violations of one fault; faults.json has them all


@click.command(name="faults")
@click.option("--fault", "faults", multiple=True, metavar="NAME", help="Only this one; `list` names them.")
@click.option("--runs", type=click.IntRange(min=1), default=100, show_default=True, help="Of each; dear ones fewer.")
@click.option("--quick", is_flag=True, help="Each once in each way: two minutes.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same choices.")
@click.option("--persons", type=click.IntRange(min=300), default=600, show_default=True, help="In each registry.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for faults.json and the nodes.")
def faults_command(  # noqa: PLR0917 - click hands everything over by name
    faults: tuple[str, ...], runs: int, quick: bool, seed: int, persons: int, out: Path | None
) -> int:
    """Make every fault of the table between three real nodes on this machine, and check every invariant after each.

    Loopback only. Exit code 65 when an invariant was broken; the command that repeats it is printed. Ctrl-C keeps the
    table of what is done. A hundred runs of all of them take some hours, mostly of waiting.
    """
    from benchmarks.faults.campaign import choose, run_campaign, run_quickly  # noqa: PLC0415
    from benchmarks.faults.world import World  # noqa: PLC0415
    from benchmarks.machine import machine  # noqa: PLC0415
    from node.log import configure_logging  # noqa: PLC0415

    if "list" in faults:
        for fault in choose(()):
            click.echo(f"{fault.name:30} {fault.how}")
        return EXIT_OK
    chosen = _chosen(faults)
    configure_logging(logging.CRITICAL)  # the nodes' own words are in their logs
    found: list[Outcome] = []
    stopped = False
    click.echo(f"machine: {machine()}; seed {seed}; 0 in n runs: below 3/n at 95 %")
    click.echo(_line("fault", "runs", "asked", _SHORT, "median s", "worst s"))
    with contextlib.ExitStack() as stack:
        if out is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pulang-faults-")))
        else:
            out.mkdir(parents=True, exist_ok=True)
            root = out.absolute()
        progress = stack.enter_context(progress_bars())
        task = progress.add_task("the federation", total=None)

        def show(name: str, done: int, total: int) -> None:
            progress.update(task, description=name, completed=done, total=total)

        def done() -> None:
            _say(found[-1], seed, runs)
            _keep(out, found, machine=machine(), seed=seed, runs=1 if quick else runs)

        try:
            world = stack.enter_context(World(root / "world", seed, persons, show))
            outcomes = run_quickly(world, chosen, show) if quick else run_campaign(world, chosen, runs, show)
            with contextlib.closing(outcomes):
                for outcome in outcomes:
                    if found and found[-1] is not outcome:
                        done()
                    if not found or found[-1] is not outcome:
                        found.append(outcome)
        except KeyboardInterrupt:
            stopped = True
        if found:
            done()
    if any(outcome.violations for outcome in found):
        return EXIT_DATA
    return EXIT_STOPPED if stopped else EXIT_OK


def _chosen(names: tuple[str, ...]) -> tuple[Fault, ...]:
    from benchmarks.faults.campaign import NAMES, choose  # noqa: PLC0415

    if unknown := [name for name in names if name not in NAMES]:
        raise click.BadParameter(f"{', '.join(unknown)}; `--fault list` names them all", param_hint="--fault")
    return choose(names)


def _say(outcome: Outcome, seed: int, runs: int) -> None:
    """Print one fault's row, and under it what was broken and how to see it again."""
    if outcome.skipped:
        lines = [f"{outcome.name:30} not made here: {outcome.skipped}"]
    else:
        seconds = ["-" if each is None else f"{each:.1f}" for each in (outcome.median_s, outcome.worst_s)]
        counts = [str(outcome.counts[kind]) for kind in _COLUMNS]
        lines = [_line(outcome.name, str(outcome.runs), str(outcome.questions), counts, *seconds)]
    for run, violation in outcome.violations[:MAX_SHOWN]:
        lines.append(f"    run {run}, {violation.kind}: {violation.text}")
    if outcome.violations:
        lines.append(f"    repeat: pulang bench faults --fault {outcome.name} --seed {seed} --runs {runs}")
    for line in lines:
        click.echo(line)


def _line(name: str, runs: str, asked: str, counts: Sequence[str], *seconds: str) -> str:
    return f"{name:30}{runs:>5}{asked:>7}" + "".join(f"{each:>9}" for each in (*counts, *seconds))


def _keep(out: Path | None, found: Sequence[Outcome], **about: object) -> None:
    if out is not None:
        document = {**about, "faults": [outcome.as_json() for outcome in found]}
        write_atomic(out / "faults.json", json.dumps(document, indent=1).encode(), mode=PUBLIC, replace=True)
