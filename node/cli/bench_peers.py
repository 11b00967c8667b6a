"""`pulang bench peers`: the same files through clkhash + anonlink, Splink and rapidfuzz."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.progress import progress_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers import Row

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--registry", type=_FILE, required=True, help="record_id,province,name,sex,birth_date,...")
@click.option("--queries", type=_FILE, required=True, help="query_id,name,sex,birth_date,birthplace,mother_name")
@click.option("--truth", type=_FILE, required=True, help="query_id,record_id,province")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the results.")
@click.option("--train-persons", type=click.IntRange(min=300), help="What the peers learn from.  [as many as reported]")
@click.option("--train-clients", type=click.IntRange(min=300), default=3_000, show_default=True)
@click.option("--train-seed", type=click.IntRange(min=0), default=9_000, show_default=True, help="As our own weights.")
def peers(
    *,
    registry: Path,
    queries: Path,
    truth: Path,
    out: Path,
    train_persons: int | None,
    train_clients: int,
    train_seed: int,
) -> None:
    """Measure clkhash + anonlink, Splink (DuckDB) and rapidfuzz on the same files as ourselves, by the same figures.

    The peers' environment is made on demand in the user's cache folder: some minutes and 900 MiB, once. They learn
    from made-up populations of the same seeds and profiles as our own weights; keep the reported files' seed apart.
    Every peer has two rows: by its own score, and with provinces weighed against each other as we do.
    """
    from benchmarks import match as core  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks import peers as theirs  # noqa: PLC0415
    from benchmarks.machine import machine  # noqa: PLC0415
    from benchmarks.populations import TODAY  # noqa: PLC0415
    from matching.weights import load_model  # noqa: PLC0415

    registered = core.read_registry(registry)
    asked = core.read_table(queries, core.QUERY_COLUMNS, key="query_id")
    report = theirs.Sample(registered, asked, core.read_truth(truth, asked, registered))
    keys = core.bench_keys()
    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, progress_bars() as progress:
        folder = Path(temporary)
        task = progress.add_task("pulang", total=asked.height)
        started = time.monotonic()
        core.build_indexes(registered, folder, keys, datetime.now(UTC))
        with core.open_indexes(folder, keys) as indexes:
            federation = core.Federation(indexes, core.for_provinces(load_model(), sorted(indexes)), keys, TODAY)
            answers = core.match_all(asked, federation, os.cpu_count() or 1)
            ours = core.write_results(out / "pulang", progress.track(answers, task_id=task), sorted(indexes))
        our_seconds = time.monotonic() - started
        if len(ours) < asked.height:
            raise click.Abort
        task = progress.add_task("peers", total=None)
        train = theirs.training_sample(train_persons or registered.height, train_clients, train_seed)
        rows = theirs.compare(
            report,
            train,
            ours,
            our_seconds=our_seconds,
            out_dir=out,
            step=lambda step: progress.update(task, description=step[:40]),
        )
    facts = {
        "persons": registered.height,
        "queries": asked.height,
        "train": {"persons": train.registry.height, "clients": train.queries.height, "seed": train_seed},
        "machine": machine(),
    }
    (out / "peers.json").write_text(
        json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n", encoding="utf-8"
    )
    _say(rows)
    click.echo(f"{machine()}; peers trained on seed {train_seed}; files are in {out}")


def _say(rows: Sequence[Row]) -> None:
    click.echo(
        f"{'':34} {'top 1':>6} {'best F1':>8} {'(95 %)':>13} {'R at P99':>9} {'ECE':>6} {'our error/its':>14} {'s':>6}"
    )
    for row in rows:
        figures, f1 = row.metrics, row.intervals["best_f1"]
        click.echo(
            f"{row.name:34} {figures.top1:6.3f} {figures.best_f1:8.4f}  {f1.low:.3f}-{f1.high:.3f} "
            f"{figures.recall_at_precision:9.3f} {figures.calibration_error:6.3f} "
            f"{row.error_ratio:14.2f} {row.seconds:6.0f}"
        )
