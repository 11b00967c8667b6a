"""The peers on our files: clkhash + anonlink, Splink, rapidfuzz, measured with our own metrics.

Each peer runs in its own environment, and names its best candidates for every query with its own score. A score is no
probability: it becomes one by a calibration fitted on a training population that is not the one reported on.
"""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from benchmarks.grading import grade
from benchmarks.match import NONE
from benchmarks.peer_env import peer_python
from benchmarks.populations import generate
from benchmarks.train import PROFILES
from matching.evaluation import Answers, Interval, ProvinceMetrics, bootstrap
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.match import Match

SCRIPTS: Final = Path(__file__).parent / "peer_scripts"

# What anybody who prepares such a file for a linker cuts off: titles, and what makes one place two.
TITLES: Final = (
    "alm", "almh", "bapak", "bp", "bpk", "by", "dr", "dra", "drg", "drs", "h", "haji", "hajah", "hj", "ibu", "ir",
    "kh", "ny", "nyonya", "pak", "prof", "sdr", "sdri", "tn", "ust", "ustad", "ustadz", "ustadzah",
)  # fmt: skip
PLACE_WORDS: Final = ("kab", "kabupaten", "kota", "kodya", "kotamadya", "kec", "kecamatan", "desa", "kel", "kelurahan")
DEFAULT_DAYS: Final = (
    "0101",
    "0701",
    "1231",
)  # registered for "day not known": every profile of such a file shows them

CLEAN_COLUMNS: Final = ("name", "sex", "birth_year", "birth_day", "birthplace", "mother_name")


def clean(table: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return a registry or query table as a peer gets it: plain text, prepared as their guides advise.

    key: columns kept as they are. Names and places in lower-case letters without titles, degrees and words like
    Kabupaten; birth_year "1970"; birth_day "0321" (month, day), blank when it is a registry's default. Blank = missing.
    """
    born = pl.col("birth_date").fill_null("")
    day = born.str.slice(5, 2) + born.str.slice(8, 2)
    return table.select(
        *key,
        _words("name", TITLES).alias("name"),
        pl.col("sex").fill_null(""),
        born.str.slice(0, 4).alias("birth_year"),
        pl.when(day.is_in(DEFAULT_DAYS)).then(pl.lit("")).otherwise(day).alias("birth_day"),
        _words("birthplace", PLACE_WORDS).alias("birthplace"),
        _words("mother_name", TITLES).alias("mother_name"),
    )


def _words(column: str, dropped: Sequence[str]) -> pl.Expr:
    """Return the lower-case words of a column before the first comma, without those to be dropped."""
    words = (
        pl.col(column)
        .fill_null("")
        .str.to_lowercase()
        .str.replace(r",.*", "")
        .str.replace_all(r"[^a-z]+", " ")
        .str.replace_all(rf"\b({'|'.join(dropped)})\b", " ")
    )
    return words.str.replace_all(r" +", " ").str.strip_chars()


# --- from scores to probabilities -----------------------------------------------------------------------------------

SHARPNESS: Final = (0.5, 1, 2, 4, 8, 16, 32)  # tried, over the spread of the best scores
SHARPEST: Final = 1000.0  # only the best score counts


@dataclass(frozen=True)
class Best:
    """The best province of every query by a peer's scores ("": none), and what is known of it: (queries, features)."""

    provinces: list[str]
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Turns a peer's scores into the probability that its best province is right.

    sharpness: scores are summed per province as exp(sharpness x score), as evidence is. weights: of the first features.
    """

    sharpness: float
    weights: NDArray[np.float64]

    def answers(self, candidates: pl.DataFrame, queries: pl.DataFrame) -> tuple[list[str], NDArray[np.float64]]:
        """Return the best province of every query ("": none), and its probability."""
        best = best_provinces(candidates, queries, self.sharpness)
        likely = 1 / (1 + np.exp(-best.features[:, : len(self.weights)] @ self.weights))
        return best.provinces, np.where([code != "" for code in best.provinces], likely, 0.0)


def best_provinces(candidates: pl.DataFrame, queries: pl.DataFrame, sharpness: float) -> Best:
    """Sum a peer's candidates per province.

    candidates: query_id, province, score. queries: cleaned, in the order of the answer.
    Features: one, the best score, the log odds of the best province among provinces, how many fields were known.
    """
    weighed = candidates.with_columns(pl.col("score").max().over("query_id").alias("top"))
    weighed = weighed.with_columns((sharpness * (pl.col("score") - pl.col("top"))).exp().alias("mass"))
    best = (
        weighed.group_by("query_id", "province")
        .agg(pl.col("mass").sum(), pl.col("top").first())
        .with_columns(pl.col("mass").sum().over("query_id").alias("all"))
        .sort("query_id", "mass", "province", descending=[False, True, False])
        .group_by("query_id", maintain_order=True)
        .first()
    )
    known = pl.sum_horizontal((pl.col(name) != "").fill_null(value=False).cast(pl.Float64) for name in CLEAN_COLUMNS)
    rows = queries.select("query_id", known.alias("known")).join(best, on="query_id", how="left", maintain_order="left")
    share = (rows["mass"] / rows["all"]).fill_null(0.5).to_numpy().clip(1e-6, 1 - 1e-6)
    top = rows["top"].fill_null(0.0).to_numpy()
    features = np.column_stack([np.ones(len(share)), top, np.log(share / (1 - share)), rows["known"].to_numpy()])
    return Best(rows["province"].fill_null("").to_list(), features)


def fit(
    candidates: pl.DataFrame, queries: pl.DataFrame, truth: Mapping[str, str], *, posterior: bool = False
) -> Calibration:
    """Fit the calibration of a peer on a training population: the likeliest by how often its best province was right.

    truth: query -> home province, for those registered. Without `posterior` the best pair's own score is all that
    counts, as the peer is used; with it, the peer gets what it lacks: provinces weighed against each other, and
    how much was known of the client.
    """
    spread = float(np.std(candidates.group_by("query_id").agg(pl.col("score").max())["score"].to_numpy())) or 1.0
    tried = []
    for steps in SHARPNESS if posterior else (SHARPEST,):
        best = best_provinces(candidates, queries, steps / spread)
        right = np.array([truth.get(q) == code for q, code in zip(queries["query_id"], best.provinces, strict=True)])
        weights, likelihood = _logistic(best.features[:, : 4 if posterior else 2], right.astype(np.float64))
        tried.append((likelihood, Calibration(steps / spread, weights)))
    return max(tried, key=lambda each: each[0])[1]


def _logistic(features: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the weights of a logistic regression by Newton's method, and its log likelihood."""
    weights = np.zeros(features.shape[1])
    ridge = 1e-3 * np.eye(features.shape[1])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (right - likely) - ridge @ weights
        curvature = (features * (likely * (1 - likely))[:, None]).T @ features + ridge
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < 1e-9:
            break
    odds = features @ weights
    return weights, float((right * odds - np.logaddexp(0, odds)).sum())


# --- the run --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Registries, queries and their truth (query -> record and province, None for nowhere)."""

    registry: pl.DataFrame
    queries: pl.DataFrame
    truth: Mapping[str, tuple[str, str] | None]

    @property
    def homes(self) -> dict[str, str]:
        """The home province of every registered client."""
        return {query: home[1] for query, home in self.truth.items() if home is not None}


@dataclass(frozen=True)
class Row:
    """One line of the comparison. error_ratio: our 1 - F1 over this one's; 1 for ourselves."""

    name: str
    metrics: ProvinceMetrics
    intervals: Mapping[str, Interval]
    error_ratio: float
    seconds: float


PEERS: Final = {
    "clkhash + anonlink": "clk_candidates.py",
    "splink": "splink_candidates.py",
    "rapidfuzz + rules": "fuzz_candidates.py",
}
TOP: Final = 200  # candidates kept per query
MEMORY: Final = "6GB"  # that DuckDB may take


def training_sample(persons: int, clients: int, seed: int) -> Sample:
    """Make what the peers learn from: a third each of the three error profiles, as our own weights were trained.

    Record and query ids are prefixed by the profile, so that the thirds stand beside each other.
    """
    registry, queries, truth = [], [], {}
    for at, profile in enumerate(PROFILES):
        made = generate(max(persons // len(PROFILES), 10), max(clients // len(PROFILES), 1), profile, seed + at)
        registry.append(made.registry.with_columns(pl.format("{}-{}", pl.lit(profile), "record_id").alias("record_id")))
        queries.append(made.queries.with_columns(pl.format("{}-{}", pl.lit(profile), "query_id").alias("query_id")))
        for query, record, province in made.truth.select("query_id", "record_id", "province").iter_rows():
            home = None if record is None else (f"{profile}-{record}", province)
            truth[f"{profile}-{query}"] = home
    return Sample(pl.concat(registry), pl.concat(queries), truth)


def compare(
    report: Sample,
    train: Sample,
    ours: Sequence[Match],
    *,
    our_seconds: float,
    out_dir: Path,
    step: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Run every peer on the report sample; return our row and theirs. step is called with what is being done.

    ours: our matches of the report sample's queries, and how long they took, indexing included.

    Writes <peer>/provinces.csv under out_dir. Raises ConfigError when a peer's program fails.
    """
    our_answers = grade(ours, report.truth).province
    rows = [_row("pulang", our_answers, our_answers, our_seconds)]
    step("the peers' environment")
    python = peer_python(progress=step)
    provinces = sorted(set(report.registry["province"].drop_nulls()))
    with tempfile.TemporaryDirectory(prefix="pulang-peers-") as temporary:
        scratch = Path(temporary)
        samples = {"train": train, "report": report}
        cleaned = {tag: _write_clean(sample, scratch / tag) for tag, sample in samples.items()}
        for name, script in PEERS.items():
            step(name)
            found, seconds = _run_peer(python, script, samples, scratch)
            for posterior in (False, True):
                calibration = fit(found["train"], cleaned["train"], train.homes, posterior=posterior)
                best, probability = calibration.answers(found["report"], cleaned["report"])
                label = f"{name}, our posterior" if posterior else name
                _write_provinces(
                    out_dir / label.replace(" ", "-").replace(",", ""), cleaned["report"], best, probability, provinces
                )
                answers = _answers(cleaned["report"]["query_id"].to_list(), best, probability, report.homes)
                rows.append(_row(label, answers, our_answers, seconds))
    return rows


def _write_clean(sample: Sample, folder: Path) -> pl.DataFrame:
    """Write a sample as the peers read it; return its queries."""
    folder.mkdir()
    queries = clean(sample.queries, ("query_id",))
    clean(sample.registry, ("record_id", "province")).write_csv(folder / "registry.csv")
    queries.write_csv(folder / "queries.csv")
    known = [(query, home[0]) for query, home in sample.truth.items() if home is not None]
    pl.DataFrame(known, schema=["query_id", "record_id"], orient="row").write_csv(folder / "truth.csv")
    return queries


def _run_peer(
    python: Path, script: str, samples: Mapping[str, Sample], scratch: Path
) -> tuple[dict[str, pl.DataFrame], float]:
    """Run one peer on both samples; return its candidates for each, and the seconds it took."""
    out = {tag: scratch / f"{tag}-{script}.csv" for tag in samples}
    shares = {tag: len(s.homes) / (s.queries.height * s.registry.height) for tag, s in samples.items()}
    job = {
        "populations": {tag: str(scratch / tag) for tag in samples},
        "out": {tag: str(path) for tag, path in out.items()},
        "top": TOP,
        "share": shares["train"],
        "report_share": shares["report"],
        "memory": MEMORY,
        "scratch": str(scratch / "duckdb"),
    }
    (scratch / "job.json").write_text(json.dumps(job), encoding="utf-8")
    started = time.monotonic()
    run_script(python, script, scratch / "job.json", scratch / "peer.log")
    seconds = time.monotonic() - started
    types = {"query_id": pl.String, "record_id": pl.String, "province": pl.String, "score": pl.Float64}
    return {tag: pl.read_csv(path, schema_overrides=types) for tag, path in out.items()}, seconds


def run_script(python: Path, script: str, job: Path, log: Path) -> None:
    """Run one of the peers' programs. Raises ConfigError with the last line it said when it fails."""
    with log.open("wb") as said:
        done = subprocess.run(  # noqa: S603 - our own program
            (str(python), str(SCRIPTS / script), str(job)),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            check=False,
        )
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ConfigError(
            f"{script} ended with exit code {done.returncode}: {' '.join(last)[:200]}",
            hint=f"remove {python.parent.parent} to have the peers' environment made anew",
        )


def _answers(
    queries: Sequence[str], best: Sequence[str], probability: NDArray[np.float64], homes: Mapping[str, str]
) -> Answers:
    registered = np.array([query in homes for query in queries])
    right = np.array([homes.get(query) == code for query, code in zip(queries, best, strict=True)])
    return Answers(probability, right, registered)


def _row(name: str, answers: Answers, ours: Answers, seconds: float) -> Row:
    metrics = answers.metrics()
    ratio = (1 - ours.metrics().best_f1) / max(1 - metrics.best_f1, 1e-9)
    return Row(name, metrics, bootstrap(answers, metrics.best_threshold), 1.0 if answers is ours else ratio, seconds)


def _write_provinces(
    folder: Path, queries: pl.DataFrame, best: Sequence[str], probability: NDArray[np.float64], provinces: Sequence[str]
) -> None:
    """Write provinces.csv as `bench match` does; what the best province leaves goes to none."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "provinces.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("query_id", "province", "probability"))
        for query, code, share in zip(queries["query_id"], best, probability, strict=True):
            for province in provinces:
                writer.writerow((query, province, f"{share if province == code else 0:.6f}"))
            writer.writerow((query, NONE, f"{1 - share:.6f}"))
