"""`pulang bench ablate`: what is lost without each rule."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.progress import progress_bars
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.ablation import Loss

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--registry", type=_FILE, required=True, help="record_id,province,name,sex,birth_date,...")
@click.option("--queries", type=_FILE, required=True, help="query_id,name,sex,birth_date,birthplace,mother_name")
@click.option("--truth", type=_FILE, required=True, help="query_id,record_id,province")
@click.option("--out", type=_FOLDER, required=True, help="Folder for ablation.json.")
@click.option("--gold", type=_FOLDER, help="variants.tsv and nonvariants.tsv.  [default: the variants that ship]")
@click.option("--rule", "chosen", multiple=True, help="Only rules of this number or name; may be given several times.")
@click.option(
    "--persons", type=click.IntRange(min=100), default=20_000, show_default=True, help="Drawn from the files."
)
@click.option("--clients", type=click.IntRange(min=10), default=600, show_default=True, help="Drawn from the files.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the drawing.")
@click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="all cores")
def ablate(
    *,
    registry: Path,
    queries: Path,
    truth: Path,
    out: Path,
    gold: Path | None,
    chosen: Sequence[str],
    persons: int,
    clients: int,
    seed: int,
    threads: int,
) -> None:
    """Leave out one rule of normalisation at a time, encode and ask anew, and show what is lost, dearest rule first.

    The weights are not trained again. Ctrl-C keeps what is done.
    """
    from benchmarks import ablation, match  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.machine import machine  # noqa: PLC0415
    from benchmarks.populations import TODAY  # noqa: PLC0415
    from matching.weights import load_model  # noqa: PLC0415

    registered = match.read_registry(registry)
    asked = match.read_table(queries, match.QUERY_COLUMNS, key="query_id")
    known = match.read_truth(truth, asked, registered)
    wanted = [rule for rule in ablation.rules() if not chosen or {rule.number, rule.name} & set(chosen)]
    if not wanted and "10" not in chosen:
        raise ConfigError("no rule has that number or name", hint="without --rule, every rule is shown by name")
    sample = ablation.draw(registered, asked, known, persons=persons, clients=clients, seed=seed)
    gold_list, keys = ablation.read_gold(gold), match.bench_keys()
    provinces = sorted(set(sample.registry["province"].drop_nulls()))
    model = match.for_provinces(load_model(), provinces)
    found: list[Loss] = []
    base = None
    with progress_bars() as progress, ablation.Bench(sample, model, keys, datetime.now(UTC), TODAY) as bench:
        task = progress.add_task("rules left out", total=len(wanted))
        try:
            for answers, loss in ablation.losses(bench, gold_list, wanted, threads=threads, seed=seed):
                if loss is None:
                    base = answers.metrics()
                    continue
                found.append(loss)
                progress.advance(task)
        except KeyboardInterrupt:
            click.echo(f"interrupted after {len(found)} of {len(wanted)} rules", err=True)
    blocks = ablation.skeleton_losses(sample, known, keys, TODAY) if not chosen or "10" in chosen else None
    if base is None:
        return
    facts = {
        "machine": machine(),
        "seed": seed,
        "persons": sample.registry.height,
        "clients": sample.queries.height,
        "gold": gold_list.source,
        "with_all_rules": asdict(base),
        "skeleton": None if blocks is None else {"with": asdict(blocks[0]), "without": asdict(blocks[1])},
    }
    ablation.write(out, found, facts)
    click.echo(f"{machine()}; seed {seed}; {sample.registry.height:,} persons, {sample.queries.height:,} clients")
    click.echo(
        f"with all rules: best F1 {base.best_f1:.4f}, recall at 99 % precision {base.recall_at_precision:.4f}, "
        f"top-1 {base.top1:.4f}; gold list: {gold_list.source}"
    )
    click.echo(f"{'lost without':32} {'best F1':>8} {'95 %':>16} {'R@P99':>8} {'top-1':>8} {'gold R':>8} {'false':>8}")
    for loss in ablation.by_loss(found):
        figures = (loss.recall_at_precision, loss.top1, loss.gold_recall, loss.false_merges)
        interval = f"{loss.best_f1.low:+.4f} {loss.best_f1.high:+.4f}"
        shown = " ".join(f"{figure:+8.4f}" for figure in figures)
        click.echo(f"{loss.number:>7} {loss.name:24} {loss.best_f1.value:+8.4f} {interval:>16} {shown}")
    if blocks is not None:
        held, heard = blocks
        click.echo(
            f"     10 skeleton: blocks hold {held.completeness:.4f} of the true pairs in {held.compared:,.0f} "
            f"comparisons a client; by sound alone {heard.completeness:.4f} in {heard.compared:,.0f}"
        )
