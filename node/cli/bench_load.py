"""`pulang bench load`: how many questions a second ten nodes on one machine bear, and what a flooding member costs."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from matching.places import PROVINCES
from node.cli.progress import progress_bars, steps_shown
from node.files import PUBLIC, write_atomic

if TYPE_CHECKING:
    from benchmarks.load import Flooded, Step

RATES = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0)


@click.command(name="load")
@click.option(
    "--demo",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="A demo made before; its nodes' budgets are raised.",
)
@click.option("--persons", type=click.IntRange(min=100), default=100_000, show_default=True, help="In each registry.")
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(min=0.1),
    multiple=True,
    default=RATES,
    show_default=True,
    help="Questions a second, to all nodes together; may be given several times.",
)
@click.option("--seconds", type=click.FloatRange(min=1), default=30.0, show_default=True, help="Each rate's.")
@click.option("--flood-rate", type=click.FloatRange(min=0.1), help="Honest rate under the flood.  [default: half]")
@click.option("--flood-rounds", type=click.IntRange(min=0), default=3, show_default=True, help="0: no flood.")
@click.option("--flood-clients", type=click.IntRange(min=1), default=16, show_default=True, help="Of the flooder.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for load.json.")
def load_command(
    *,
    folder: Path | None,
    persons: int,
    rates: tuple[float, ...],
    seconds: float,
    flood_rate: float | None,
    flood_rounds: int,
    flood_clients: int,
    seed: int,
    out: Path | None,
) -> None:
    """Ask ten real nodes ever faster until the p99 passes a second; then flood one of them, at half that rate.

    Every question goes to all provinces, from the next node in turn, under budgets that do not end it. Questions come
    at their rate whatever becomes of them. The flooder is one member's credentials with many clients; its victim's p99
    is measured on the questions of the other members, without and with the flood in turn. Ctrl-C keeps what is done.
    """
    from benchmarks import demo, load  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.machine import machine  # noqa: PLC0415

    steps: list[Step] = []
    rounds: list[Flooded] = []
    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, progress_bars() as progress:
        show = steps_shown(progress)
        if folder is None:
            plan = demo.DemoPlan(persons, load.PLAN_CLIENTS, seed, tuple(sorted(PROVINCES)))
            made, _ = demo.build(Path(temporary) / "demo", plan, show)
        else:
            made = demo.DemoFolder(folder.absolute())
        plan = made.plan()
        load.give_room(made, plan)
        click.echo(
            f"machine: {machine()}; seed {seed}; {len(plan.provinces)} nodes of {plan.persons:,} persons",
        )
        with demo.serving(made, plan, show) as pids:
            bench = load.Bench(made, plan, list(pids.values()), seed)
            bench.warm_up()
            click.echo(_HEAD)
            for rate in sorted(rates):
                task = progress.add_task(f"{rate:g} a second", total=round(rate * seconds))
                steps.append(bench.step(rate, seconds, functools.partial(progress.advance, task)))
                progress.remove_task(task)
                click.echo(_row(steps[-1]))
                if steps[-1].p99_ms > load.LIMIT_MS:
                    break
            borne = max((each.rate for each in steps if each.is_borne), default=None)
            click.echo(_borne(borne, seconds))
            honest = flood_rate or (borne or min(rates)) / 2
            for number in range(flood_rounds):
                task = progress.add_task(f"flood {number + 1}", total=2 * round(honest * seconds))
                advance = functools.partial(progress.advance, task)
                rounds.append(bench.flood(honest, seconds, clients=flood_clients, number=number, progress=advance))
                progress.remove_task(task)
                for line in _flooded(rounds[-1]):
                    click.echo(line)
    if rounds:
        click.echo(
            f"victim's p99 under the flood, over its quiet p99: {load.median_ratio(rounds):.2f} (median of rounds)"
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        report = {
            "machine": machine(), "seed": seed, "persons": plan.persons, "seconds": seconds, "borne": borne,
            "steps": [asdict(each) for each in steps], "floods": [asdict(each) for each in rounds],
        }  # fmt: skip
        write_atomic(out / "load.json", json.dumps(report, indent=1).encode(), mode=PUBLIC, replace=True)


_HEAD = (
    f"{'questions/s':>12}{'asked':>7}{'median ms':>11}{'p99 ms':>8}{'worst ms':>10}{'incomplete':>12}{'failed':>8}"
    f"{'processor ms a question':>25}"
)


def _row(step: Step) -> str:
    return (
        f"{step.rate:12g}{step.asked:7,}{step.median_ms:11,.0f}{step.p99_ms:8,.0f}{step.worst_ms:10,.0f}"
        f"{step.incomplete:12,}{step.failed:8,}{step.cpu_ms:25,.0f}"
    )


def _borne(rate: float | None, seconds: float) -> str:
    if rate is None:
        return "no rate was borne"
    return f"borne for {seconds:g} s, every question whole and the p99 within a second: {rate:g} questions/s"


def _flooded(found: Flooded) -> list[str]:
    calls = ", ".join(f"{count:,} {name}" for name, count in sorted(found.calls.items()))
    return [
        f"{label:8} victim: median {step.victim_median_ms:.0f} ms, p99 {step.victim_p99_ms:.0f} ms; whole question: "
        f"median {step.median_ms:.0f} ms, p99 {step.p99_ms:.0f} ms; {step.asked} asked, {step.incomplete} incomplete, "
        f"{step.failed} failed" + (f"; the flooder's calls: {calls}" if label == "flooded" else "")
        for label, step in (("quiet", found.quiet), ("flooded", found.flooded))
    ]
