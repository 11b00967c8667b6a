"""`pulang bench`: make populations, measure accuracy and speed."""

from __future__ import annotations

import functools
import math
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from matching.places import PROVINCES
from node.cli.bench_ablate import ablate
from node.cli.bench_audit import audit_command
from node.cli.bench_faults import faults_command
from node.cli.bench_fuzz import fuzz_command
from node.cli.bench_leakage import leakage
from node.cli.bench_load import load_command
from node.cli.bench_match import match
from node.cli.bench_memory import memory_command
from node.cli.bench_peers import peers
from node.cli.bench_roll import life, revoke, roll
from node.cli.bench_sweep import sweep
from node.cli.progress import progress_bars as _progress
from node.cli.progress import steps_shown

if TYPE_CHECKING:
    from benchmarks.errors_model import Profile
    from benchmarks.speed import Spread

PROFILES = ("low", "base", "high")
_FILE = click.Path(path_type=Path, dir_okay=False)
MAX_REVIEWS_BYTES = 64 << 20


@click.group()
def bench() -> None:
    """Make populations; measure accuracy and speed. Every figure comes with its machine and its seed."""


bench.add_command(ablate)
bench.add_command(audit_command)
bench.add_command(faults_command)
bench.add_command(fuzz_command)
bench.add_command(leakage)
bench.add_command(load_command)
bench.add_command(match)
bench.add_command(life)
bench.add_command(memory_command)
bench.add_command(peers)
bench.add_command(revoke)
bench.add_command(roll)
bench.add_command(sweep)


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
@click.option(
    "--unknown-names",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Of persons whose names no reference knows: letters exchanged, as common as before.",
)
def populate(*, persons: int, clients: int, profile: str, seed: int, out: Path, unknown_names: float) -> None:
    """Make registries of the ten provinces and clients of known truth. All persons are made up."""
    from benchmarks import populations  # noqa: PLC0415 - polars is not needed for --help

    with _progress() as progress:
        task = progress.add_task("persons", total=persons)
        recipe = populations.Recipe(persons, clients, cast("Profile", profile), seed)
        found = populations.populate(
            recipe, out, lambda done: progress.advance(task, done), unknown_names=unknown_names
        )
    for label, value in found.items():
        shown = f"{value:,.0f}" if value > 100 else f"{value:.3f}"
        click.echo(f"{label:32} {shown:>12}")
    click.echo(f"registry.csv, queries.csv, truth.csv and errors.csv are in {out}; seed {seed}, profile {profile}")


@bench.command()
@click.option("--out", type=_FILE, required=True, help="Model file to write.")
@click.option("--persons", type=click.IntRange(min=1000), default=100_000, show_default=True, help="Per profile.")
@click.option("--clients", type=click.IntRange(min=100), default=6_000, show_default=True, help="Per profile.")
@click.option("--seed", type=click.IntRange(min=0), default=9_000, show_default=True, help="Same seed, same table.")
@click.option(
    "--reviews", "files", type=_FILE, multiple=True, metavar="FILE", help="Of `pulang review export`; several times."
)
def train(*, out: Path, persons: int, clients: int, seed: int, files: tuple[Path, ...]) -> None:
    """Train a weight table on made-up populations, one per profile.

    The table that ships is matching/data/model.json. Measure it on other seeds: a table flatters its own. --reviews
    moves m towards what caseworkers called the same person; too few decisions are refused, and none moves it far.
    """
    from benchmarks.train import PROFILES, Training  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.train import train as run  # noqa: PLC0415
    from matching.clerical import count_decisions, learn, read_reviews  # noqa: PLC0415
    from matching.schema import PERSON_SCHEMA  # noqa: PLC0415
    from node.files import read_file, write_atomic  # noqa: PLC0415

    reviews = [
        review
        for file in files
        for review in read_reviews(
            read_file(file, limit=MAX_REVIEWS_BYTES).decode("ascii", errors="replace"), PERSON_SCHEMA
        )
    ]
    if files:
        count_decisions(reviews)  # too few are refused before the work, not after it
    with _progress() as progress:
        task = progress.add_task("clients", total=2 * clients * len(PROFILES))
        model = run(Training(persons, clients, seed), lambda done: progress.advance(task, done))
    if files:
        model = learn(model, reviews)
    write_atomic(out, model.to_json().encode("ascii"), replace=True)
    scales = ", ".join(f"{name} {scale:.2f}" for name, scale in model.scales.items())
    click.echo(f"{out}: scales {scales}; temperature {model.temperature:.2f}; seed {seed}")


@bench.command()
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--peers", "with_peers", is_flag=True, help="Also clkhash, anonlink and rapidfuzz, in turn with ours.")
@click.option(
    "--persons",
    "sizes",
    type=click.IntRange(min=1_000),
    multiple=True,
    default=(400_000, 10_000_000),
    show_default=True,
    help="Encoded beside the peers, each round. May be given several times.",
)
def speed(seed: int, sizes: tuple[int, ...], *, with_peers: bool) -> None:
    """Scan 512-bit filters for one question on one core, beside what the memory of this machine gives.

    --peers makes their environment on demand in the user's cache folder: some minutes and 900 MiB, once. Five rounds
    with ten million persons take three minutes, 2 GiB of memory and 600 MB of temporary files.
    """
    from benchmarks import speed as core  # noqa: PLC0415 - numba is not needed for --help

    _say_machine(seed)
    found = core.scan_speed(seed)
    _say("filters of 512 bits scored", found.filters_per_s, 1e6, "M/s")
    _say("bytes read by that scan", found.read_per_s, 1e9, "GB/s")
    _say("bytes read by numpy's sum", found.numpy_sum_per_s, 1e9, "GB/s")
    if with_peers:
        _speed_of_peers(seed, sizes)


def _speed_of_peers(seed: int, sizes: tuple[int, ...]) -> None:
    from benchmarks.peer_env import peer_python  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.peer_speed import peer_speed  # noqa: PLC0415

    with _progress() as progress:
        task = progress.add_task("peers", total=None)

        def show(step: str) -> None:
            progress.update(task, description=step[:40])

        found = peer_speed(peer_python(progress=show), seed, sizes, step=show)
    for persons, rivals in found.encoding.items():
        _say(f"persons encoded, of {persons:,}", rivals.ours, 1e3, "k/s")
        _say("persons encoded, clkhash", rivals.theirs, 1e3, "k/s")
        _say("  times clkhash", rivals.ratio, 1, "x")
    bits = found.filter_bits
    _say(f"{bits}-bit pairs, ours", found.comparing.ours, 1e6, "M/s")
    _say(f"{bits}-bit pairs, anonlink", found.comparing.theirs, 1e6, "M/s")
    _say("  times anonlink", found.comparing.ratio, 1, "x")
    click.echo(f"  {'the same' if found.same_pairs else 'NOT the same'} pairs found by both")
    _say("name pairs, rapidfuzz", found.names, 1e6, "M/s")


@bench.command("import")
@click.option("--persons", "sizes", type=click.IntRange(min=1_000), multiple=True, default=(100_000, 2_000_000))
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def import_(sizes: tuple[int, ...], seed: int) -> None:
    """Import CSV registries by the real command, kept to one core: persons a second, and peak memory.

    --persons may be given several times; by default 100,000 and 2,000,000, to show that memory stays flat.
    """
    from benchmarks import speed as core  # noqa: PLC0415 - numba is not needed for --help

    _say_machine(seed)
    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary:
        folder = Path(temporary)
        for persons in sizes:
            registry = folder / f"{persons}.csv"
            with _progress() as progress:
                task = progress.add_task("persons made up", total=persons)
                core.write_registry(registry, persons, seed, functools.partial(progress.advance, task))
                task = progress.add_task("importing", total=None)
                found = core.import_speed(registry, persons, folder)
                progress.update(task, total=persons, completed=persons)
            click.echo(
                f"{persons:>10,} persons  {found.seconds:6.1f} s  {persons / found.seconds:>8,.0f} persons/s  "
                f"(processor {found.cpu_s:.1f} s, {persons / found.cpu_s:,.0f} persons/s)  "
                f"peak {found.peak_bytes / 2**20:,.0f} MiB"
            )
            registry.unlink()


@bench.command()
@click.option(
    "--persons",
    "sizes",
    type=click.IntRange(min=1_000),
    multiple=True,
    default=(100_000, 1_000_000, 10_000_000),
    show_default=True,
    help="May be given several times.",
)
@click.option("--clients", type=click.IntRange(min=10), default=200, show_default=True, help="Asked about, each size.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def growth(sizes: tuple[int, ...], clients: int, seed: int) -> None:
    """Import registries of growing size and ask about clients, on one core: time, memory, disk.

    Ten million persons take a quarter of an hour and 3 GB of temporary files (TMPDIR says where).
    """
    from benchmarks import growth as core  # noqa: PLC0415 - numba is not needed for --help

    _say_machine(seed)
    click.echo("   persons  persons/s  import MiB  index MiB  open ms  question ms: median    p99  MiB")
    for persons in sizes:
        with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, _progress() as progress:
            task = progress.add_task("persons made up", total=persons)
            core.write_population(Path(temporary), persons, clients, seed, functools.partial(progress.advance, task))
            progress.add_task("importing and asking", total=None)
            found = core.measure(Path(temporary), persons)
        click.echo(
            f"{persons:>10,} {persons / found.import_s:>10,.0f} {found.import_peak_bytes / 2**20:>11,.0f} "
            f"{found.index_bytes / 2**20:>10,.0f} {1000 * found.open_s:>8.1f} {found.median_ms:>20.1f} "
            f"{found.p99_ms:>6.1f} {found.search_peak_bytes / 2**20:>4,.0f}"
        )


@bench.command()
@click.option("--demo", "folder", type=click.Path(path_type=Path, file_okay=False), help="A demo made before.")
@click.option("--persons", type=click.IntRange(min=100), default=100_000, show_default=True, help="In each registry.")
@click.option("--questions", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def question(folder: Path | None, persons: int, questions: int, seed: int) -> None:
    """Ask questions over ten real nodes on this machine: median and p99 of what a caller waits, after a warm-up."""
    from benchmarks import demo  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks import speed as core  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, _progress() as progress:
        show = steps_shown(progress)
        if folder is None:
            plan = demo.DemoPlan(persons, 10, seed, tuple(sorted(PROVINCES)))
            made, _ = demo.build(Path(temporary) / "demo", plan, show)
        else:
            made = demo.DemoFolder(folder.absolute())
        plan = made.plan()
        with demo.serving(made, plan, show):
            task = progress.add_task("questions", total=questions)
            found = core.question_speed(made, questions, functools.partial(progress.advance, task))
    _say_machine(plan.seed)
    click.echo(
        f"{found.questions} questions over {len(plan.provinces)} nodes of {plan.persons:,} persons: median "
        f"{found.median_ms:.0f} ms, p99 {found.p99_ms:.0f} ms, worst {found.worst_ms:.0f} ms, "
        f"{found.incomplete} incomplete"
    )


@bench.command("link")
@click.argument("a", type=_FILE, metavar="A.CSV")
@click.argument("b", type=_FILE, metavar="B.CSV")
@click.option("--out", type=_FILE, required=True, help="File of links to write.")
@click.option("--threshold-bits", type=float, help="Least match weight of a link.  [default: log2 of B's persons]")
@click.option("--top-k", type=click.IntRange(min=1), help="At most so many links a record of A.")
@click.option("--blocking", type=click.Choice(("none", "phonetic")), default="phonetic", show_default=True)
@click.option("--one-to-one", is_flag=True, help="Nobody is linked twice; the best links come first.")
@click.option("--truth", type=_FILE, help="record_id_a,record_id_b; without it, completeness is measured on a sample.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of that sample.")
@click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="all cores")
def link_(
    *,
    a: Path,
    b: Path,
    out: Path,
    threshold_bits: float | None,
    top_k: int | None,
    blocking: str,
    one_to_one: bool,
    truth: Path | None,
    seed: int,
    threads: int,
) -> None:
    """Link the records of file A to those of file B, both encoded first; both in registry.csv's columns.

    Compares everybody with everybody, or only who shares a phonetic blocking key, and says how many pairs that spared
    and lost. Ctrl-C keeps what is done. Writes record_id_a, record_id_b, match_weight_bits and probability.
    """
    from benchmarks import link as core  # noqa: PLC0415 - numba is not needed for --help
    from benchmarks.match import bench_keys  # noqa: PLC0415
    from benchmarks.populations import TODAY  # noqa: PLC0415
    from matching.link import link  # noqa: PLC0415
    from matching.weights import load_model  # noqa: PLC0415

    ours, theirs = core.read_records(a), core.read_records(b)
    known = None if truth is None else core.read_pairs(truth, ours, theirs)
    keys, model, phonetic = bench_keys(), load_model(), blocking == "phonetic"
    with tempfile.TemporaryDirectory(prefix="pulang-bench-") as temporary, _progress() as progress:
        task = progress.add_task("B encoded", total=theirs.height)
        folder = Path(temporary) / "b"
        advance = functools.partial(progress.advance, task)
        registry = core.build(theirs, folder, keys, datetime.now(UTC), phonetic=phonetic, progress=advance)
        if threshold_bits is None and top_k is None:
            threshold_bits = math.log2(registry.index.size)
        encoder = core.RecordEncoder(keys, TODAY, phonetic=phonetic)
        rows = progress.track(encoder.records(ours), total=ours.height, description="A linked")
        started = time.monotonic()
        batches = link(
            rows,
            registry.index,
            model,
            threshold_bits=threshold_bits,
            top_k=top_k,
            blocks=registry.blocks,
            threads=threads,
        )
        run = core.write_links(out, batches, registry.index, single=one_to_one)
        seconds = time.monotonic() - started
        checker = core.RecordEncoder(keys, TODAY, phonetic=phonetic)
        if known is not None:
            complete = core.true_completeness(known, ours, checker, registry)
        else:
            complete = core.sampled_completeness(ours, checker, registry, model, seed=seed)
    _say_machine(seed)
    limits = [f"{threshold_bits:.1f} bits or more"] if threshold_bits is not None else []
    limits += [f"at most {top_k} a record"] if top_k is not None else []
    click.echo(f"links                 {len(run.pairs):>14,}  ({', '.join(limits)}; blocking {blocking})")
    click.echo(f"pairs compared        {run.compared:>14,}  of {run.done * registry.index.size:,}")
    click.echo(f"reduction ratio       {run.reduction_ratio(registry.index):>14.6f}")
    counted = f"{complete.compared:,} of {complete.pairs:,}; {complete.reference}"
    click.echo(f"pairs completeness    {complete.share:>14.4f}  ({counted})")
    if known is not None:
        found = core.quality(run.pairs, known)
        click.echo(f"precision, recall, F1 {found.precision:>14.4f}  {found.recall:.4f}  {found.f1:.4f}")
    for issue, count in sorted((registry.issues + encoder.issues).items()):
        click.echo(f"rows of {issue}: {count:,}")
    click.echo(f"{run.done:,} of {ours.height:,} records worked through in {seconds:.1f} s; links are in {out}")


def _say_machine(seed: int) -> None:
    from benchmarks.machine import machine  # noqa: PLC0415

    click.echo(f"machine: {machine()}; seed {seed}")


def _say(label: str, spread: Spread, unit: float, name: str) -> None:
    click.echo(
        f"{label:28} {spread.median / unit:8.1f} {name}  (least {spread.low / unit:.1f}, most {spread.high / unit:.1f})"
    )
