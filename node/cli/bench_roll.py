"""`pulang bench roll` and `revoke`: what rolling certificates costs whoever asks; how soon who is put out is out."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.progress import progress_bars
from node.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.town import Town

_out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Empty folder for the federation and transcript.txt; default: a temporary one.",
)
PHASES = ("before", "leaves", "intermediates", "root", "after")


@contextmanager
def _town(out: Path | None) -> Iterator[Town]:
    """Yield a federation to be made, in a folder that is kept if it was named; what is typed is in transcript.txt."""
    from benchmarks.sweep import quick_folder  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.town import Town  # noqa: PLC0415
    from node.log import configure_logging  # noqa: PLC0415

    configure_logging(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="pulang-bench-", dir=quick_folder()) as temporary:
        root = Path(temporary) if out is None else out.absolute()
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise click.UsageError(f"{root} is not empty")
        began = time.monotonic()
        with (root / "transcript.txt").open("w", encoding="utf-8") as transcript:

            def show(line: str) -> None:
                transcript.write(f"{time.monotonic() - began:8.2f}  {line}\n")
                transcript.flush()

            yield Town(root, show)


@click.command()
@click.option("--calls", type=click.IntRange(min=1), default=1_000, show_default=True, help="At least so many.")
@click.option("--persons", type=click.IntRange(min=100), default=2_000, show_default=True, help="In each registry.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same persons.")
@_out_option
def roll(calls: int, persons: int, seed: int, out: Path | None) -> int:
    """Roll leaves, intermediates and the root of three nodes under steady questions; count the calls that failed.

    Real nodes with their default settings, every step by the command an admin types: some four minutes. Exit code 1
    when a single call failed.
    """
    from benchmarks.machine import machine  # noqa: PLC0415
    from benchmarks.roll import measure_rolls  # noqa: PLC0415

    with _town(out) as town:
        found = measure_rolls(town, persons=persons, calls=calls, seed=seed)
    click.echo(f"machine: {machine()}; 3 nodes x {persons:,} persons; seed {seed}")
    click.echo(f"{'while rolling':15} {'calls':>8} {'not answered':>13}")
    for phase in PHASES:
        in_phase = {state: count for (name, state), count in found.counts.items() if name == phase}
        failed = sum(count for state, count in in_phase.items() if state != "answered")
        click.echo(f"{phase:15} {sum(in_phase.values()):>8,} {failed:>13,}")
    total, failed = sum(found.counts.values()), len(found.failures)
    click.echo(f"{'all':15} {total:>8,} {failed:>13,}   in {found.seconds:.0f} s")
    said = ", ".join(f"{status} {count:,}" for status, count in sorted(found.served.items()))
    click.echo(f"by the servers' own count: {said}")
    for line in found.failures[:20]:
        click.echo(line)
    return EXIT_FAILED if failed else EXIT_OK


@click.command()
@click.option("--persons", type=click.IntRange(min=100), default=500, show_default=True, help="In each registry.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same persons.")
@_out_option
def life(persons: int, seed: int, out: Path | None) -> int:
    """Live a federation's whole life and print every command with what it says.

    Three provinces found it, a fourth is admitted by threshold, a certificate is renewed, the intermediates roll under
    questions, a leaf is revoked, a member is put out, the root rolls under questions: some minutes. Exit code 1 when a
    call failed while certificates rolled.
    """
    from benchmarks.life import live, shortened  # noqa: PLC0415
    from benchmarks.machine import machine  # noqa: PLC0415

    with _town(out) as town:
        write = town.show

        def show(line: str) -> None:
            write(line)
            click.echo(line)

        town.show = shortened(show)
        click.echo(f"# machine: {machine()}; seed {seed}")
        load = live(town, persons=persons, seed=seed, tell=lambda title: show(f"\n# {title}\n"))
    return EXIT_FAILED if load.failures else EXIT_OK


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=12, show_default=True, help="Times a member is put out.")
@click.option("--restores", type=click.IntRange(min=0), default=3, show_default=True, help="Of an old backup.")
@click.option("--persons", type=click.IntRange(min=100), default=2_000, show_default=True, help="In each registry.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same persons.")
@_out_option
def revoke(rounds: int, restores: int, persons: int, seed: int, out: Path | None) -> int:
    """Put a member out in every way there is while it goes on calling over open connections; time its last answer.

    Real nodes with their default settings: some minutes. Then a node's folder comes back from a backup in which it was
    still a member. Exit code 1 when an answer came later than 60 s, or any after a restore.
    """
    from benchmarks.machine import machine  # noqa: PLC0415
    from benchmarks.roll import WAYS, measure_revocations  # noqa: PLC0415

    with _town(out) as town, progress_bars() as bars:
        task = bars.add_task("rounds", total=rounds)
        found, restored = measure_revocations(
            town,
            persons=persons,
            rounds=rounds,
            restores=restores,
            seed=seed,
            done=lambda number: bars.update(task, completed=number),
        )
    click.echo(f"machine: {machine()}; 4 members, 3 nodes, a call every 0.1 s to each; seed {seed}")
    click.echo("last answered call, seconds after publishing began:")
    click.echo(f"{'':22} {'node':22} {'n':>3} {'median':>8} {'worst':>8}")
    for how in WAYS:
        for is_publisher, where in ((True, "that published"), (False, "that had to hear of it")):
            seconds = [each.seconds for each in found if (each.how, each.is_publisher) == (how, is_publisher)]
            if seconds:
                click.echo(f"{how:22} {where:22} {len(seconds):>3} {_figures(seconds)}")
    click.echo(f"{'all':22} {'':22} {len(found):>3} {_figures([each.seconds for each in found])}")
    calls, accepted = sum(each.calls for each in restored), sum(each.accepted for each in restored)
    click.echo(f"after restoring an old backup: {accepted} of {calls:,} calls answered, {len(restored)} restores")
    late = [each for each in found if each.seconds > 60]
    return EXIT_FAILED if late or accepted else EXIT_OK


def _figures(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):>8.1f} {max(seconds):>8.1f}"
