"""`pulang bench match`: how often the right home is found, on files of known truth or on FEBRL4."""

from __future__ import annotations

import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.cli.progress import progress_bars

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from benchmarks.febrl import Fields
    from matching.evaluation import Interval

SEED: Final = 1  # of everything that is drawn here: resampled clients, sampled pairs
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--registry", type=_FILE, help="record_id,province,name,sex,birth_date,...")
@click.option("--queries", type=_FILE, help="query_id,name,sex,birth_date,birthplace,mother_name")
@click.option("--truth", type=_FILE, help="query_id,record_id,province; without it, answers but no figures.")
@click.option("--errors", type=_FILE, help="query_id,operations: what is wrong with each query, for the report.")
@click.option("--dataset", type=click.Choice(["febrl4"]), help="A public data set, instead of files.")
@click.option("--fields", type=click.Choice(["all", "sparse"]), default="all", show_default=True, help="Of FEBRL4.")
@click.option("--one-to-one", is_flag=True, help="FEBRL4: every record has at most one partner, best first.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the results.")
@click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="all cores")
def match(
    *,
    registry: Path | None,
    queries: Path | None,
    truth: Path | None,
    errors: Path | None,
    dataset: str | None,
    fields: Fields,
    one_to_one: bool,
    out: Path,
    threads: int,
) -> None:
    """Encode, index, search and weigh as the nodes do; measure the answers against the truth.

    Ctrl-C keeps what is done. Writes candidates.csv, provinces.csv and refused.csv (FEBRL4: links.csv), metrics.json,
    and report.html, which needs no network.
    """
    if dataset is not None:
        if registry or queries or truth or errors:
            raise click.UsageError("--dataset brings its own files")
        _febrl(fields, out, threads, single=one_to_one)
    elif registry is None or queries is None:
        raise click.UsageError("--registry and --queries are needed, or --dataset")
    elif fields != "all" or one_to_one:
        raise click.UsageError("--fields and --one-to-one belong to --dataset")
    elif truth is None and errors is not None:
        raise click.UsageError("--errors says nothing without --truth")
    else:
        _files(registry, queries, truth, errors, out=out, threads=threads)


def _files(registry: Path, queries: Path, truth: Path | None, errors: Path | None, *, out: Path, threads: int) -> None:
    from benchmarks import match as core  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.machine import machine  # noqa: PLC0415
    from benchmarks.match_report import evaluate, metrics_of, one_more_words, report_of  # noqa: PLC0415
    from benchmarks.populations import TODAY  # noqa: PLC0415
    from benchmarks.report import render  # noqa: PLC0415
    from matching.weights import load_model  # noqa: PLC0415

    registered = core.read_registry(registry)
    asked = core.read_table(queries, core.QUERY_COLUMNS, key="query_id")
    known = None if truth is None else core.read_truth(truth, asked, registered)
    wrong = None if errors is None else core.read_errors(errors, asked)
    keys = core.bench_keys()
    evaluation = None
    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, progress_bars() as progress:
        folder = Path(temporary)
        task = progress.add_task("persons indexed", total=registered.height)
        started = time.monotonic()
        issues = core.build_indexes(
            registered, folder, keys, datetime.now(UTC), lambda done: progress.advance(task, done)
        )
        indexed_s = time.monotonic() - started
        with core.open_indexes(folder, keys) as indexes:
            federation = core.Federation(indexes, core.for_provinces(load_model(), sorted(indexes)), keys, TODAY)
            task = progress.add_task("queries answered", total=asked.height)
            started = time.monotonic()
            answers = core.match_all(asked, federation, threads)
            matches = core.write_results(out, progress.track(answers, task_id=task), sorted(indexes))
            asked_s = time.monotonic() - started
            if known is not None and matches:
                done = len(matches) == asked.height
                evaluation = evaluate(
                    matches,
                    known,
                    asked,
                    registered,
                    errors=wrong,
                    threshold=federation.model.release_threshold,
                    # Who has interrupted the first round has no patience for a second.
                    ask=(lambda more: core.match_all(more, federation, threads)) if done else None,
                )
    facts = {
        "files": [path.name for path in (registry, queries, truth, errors) if path is not None],
        "persons": registered.height,
        "queries": asked.height,
        "answered": len(matches),
        "refused": sum(match.refused is not None for match in matches),
        "registry_issues": dict(sorted(issues.items())),
        "index_s": round(indexed_s, 2),
        "ask_s": round(asked_s, 2),
        "machine": machine(),
        "model": dict(federation.model.recipe),
    }
    core.write_metrics(out, facts if evaluation is None else {**metrics_of(evaluation), **facts})
    if evaluation is not None and known is not None:
        _say_figures({"province": evaluation.province, "person": evaluation.person}, evaluation.threshold)
        for name, count in evaluation.outcomes.items():
            click.echo(f"{name.replace('_', ' '):26} {count:>7,}")
        if evaluation.one_more is not None:
            click.echo(one_more_words(evaluation.one_more))
        said = {name.replace("_", " "): _said(value) for name, value in facts.items()}
        report = report_of(evaluation, matches, known, model=federation.model, persons=registered.height, facts=said)
        (out / "report.html").write_text(render(report), encoding="utf-8")
    _say_issues(issues, "registry rows with")
    _say_end(len(matches), asked.height, "queries answered", asked_s, out)


def _febrl(fields: Fields, out: Path, threads: int, *, single: bool) -> None:
    from dataclasses import asdict  # noqa: PLC0415

    from benchmarks import febrl  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks import match as core  # noqa: PLC0415
    from benchmarks.link import write_links  # noqa: PLC0415
    from benchmarks.machine import machine  # noqa: PLC0415
    from benchmarks.peer_env import peer_python  # noqa: PLC0415
    from benchmarks.populations import TODAY  # noqa: PLC0415
    from benchmarks.report import render  # noqa: PLC0415
    from matching.em import PASSES  # noqa: PLC0415
    from matching.evaluation import bootstrap  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, progress_bars() as progress:
        task = progress.add_task("environment", total=None)
        python = peer_python(progress=lambda what: progress.update(task, description=f"installing {what}"))
        progress.update(task, description="environment", total=1, completed=1)
        files = febrl.export(python, Path(temporary))
        task = progress.add_task("learning, unlabelled", total=PASSES * files.originals.height)
        started = time.monotonic()
        linkage = febrl.prepare(
            files,
            febrl.load_schema(fields),
            Path(temporary) / "index",
            now=datetime.now(UTC),
            today=TODAY,
            seed=SEED,
            progress=lambda: progress.advance(task),
        )
        learned_s = time.monotonic() - started
        task = progress.add_task("records linked", total=len(linkage.records))
        started = time.monotonic()
        linked = febrl.ask(linkage, threads, single=single, progress=lambda done: progress.advance(task, done))
        asked_s = time.monotonic() - started
        answers = febrl.answers(linked, linkage.index, files.links)
        run = write_links(out / "links.csv", febrl.likely(linked.batches), linkage.index)
        examples = febrl.examples(linked, linkage, files.links)
        coverage = linkage.model.coverage
        linkage.index.close()
    figures = bootstrap(answers, febrl.RELEASED)
    facts = {
        "dataset": "febrl4",
        "fields": list(linkage.model.schema.field_names),
        "one_to_one": single,
        "records": len(linkage.records),
        "asked": len(linked.asked),
        "links": len(run.pairs),
        "em": {"rounds": linkage.rounds, "share_with_a_partner": round(coverage, 4), "seed": SEED},
        "issues": dict(sorted(linkage.issues.items())),
        "learn_s": round(learned_s, 2),
        "ask_s": round(asked_s, 2),
        "machine": machine(),
    }
    intervals = {name: asdict(interval) for name, interval in figures.items()}
    core.write_metrics(out, {"record": asdict(answers.metrics()), "intervals": {"record": intervals}, **facts})
    said = {name.replace("_", " "): _said(value) for name, value in facts.items()}
    page = render(febrl.report(answers, figures, examples, said, fields=fields, single=single))
    (out / "report.html").write_text(page, encoding="utf-8")
    _say_figures({"record": figures}, febrl.RELEASED)
    _say_issues(linkage.issues, "values not read, of")
    _say_end(len(linked.asked), len(linkage.records), "records linked", asked_s, out)


def _say_figures(kinds: Mapping[str, Mapping[str, Interval]], threshold: float) -> None:
    """Show every figure with its interval, a column per kind."""
    click.echo(f"{'':22}" + "".join(f"{kind:>26}" for kind in kinds))
    for name in next(iter(kinds.values())):
        at = f" at {threshold:g}" if name in {"precision", "recall", "false_rate"} else ""
        cells = (f"{f[name].value:.4f} ({f[name].low:.4f}-{f[name].high:.4f})" for f in kinds.values())
        click.echo(f"{name + at:22}" + "".join(f"{cell:>26}" for cell in cells))


def _said(value: object) -> str:
    """Write a fact of metrics.json as words."""
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')} {_said(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _say_issues(issues: Counter[str], label: str) -> None:
    for issue, count in sorted(issues.items()):
        click.echo(f"{label} {issue}: {count:,}")


def _say_end(done: int, total: int, what: str, seconds: float, out: Path) -> None:
    if done < total:
        click.echo(f"interrupted: figures and files are those of the first {done:,} of {total:,}", err=True)
    click.echo(f"{done:,} of {total:,} {what} in {seconds:.1f} s; results are in {out}")
