"""Match benchmark: the real path (encode, an index per province, search, posterior) on files of known truth."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from benchmarks.grading import grade
from matching.encoding import QueryEncoder
from matching.errors import FieldValueError, SchemaError
from matching.index import Column, EncodedIndex, IndexBuilder, RecordBatch
from matching.keys import FieldKeys
from matching.posterior import Decision, Posterior, weigh
from matching.question import Client, SearchResult
from matching.rules import NORMALISATION, Normalisation
from matching.schema import PERSON_SCHEMA
from matching.search import search
from node.errors import ConfigError
from node.mapping import numbered, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from matching.at_rest import AtRestKey
    from matching.evaluation import ProvinceMetrics
    from matching.weights import MatchModel

REGISTRY_FIELDS: Final = ("name", "sex", "birth_date", "birthplace", "mother_name")
MOSTLY_DISTINCT: Final = ("name", "mother_name", "birth_date")  # looking for equal ones costs more than reading each
REGISTRY_COLUMNS: Final = ("record_id", "province", *REGISTRY_FIELDS)
QUERY_COLUMNS: Final = ("query_id", *REGISTRY_FIELDS)
TRUTH_COLUMNS: Final = ("query_id", "record_id", "province")
ERROR_COLUMNS: Final = ("query_id", "operations")
PROVINCE_CODE: Final = r"^[0-9A-Za-z_-]{1,32}$"  # a province's index is a folder of this name
BATCH_PERSONS: Final = 200_000
CANDIDATES: Final = 5  # per query, as in an answer
NONE: Final = "none"


@dataclass(frozen=True)
class Federation:
    """Every province's index, with what a question to them needs. today: ages are counted to this day."""

    indexes: Mapping[str, EncodedIndex]
    model: MatchModel
    keys: FieldKeys
    today: date
    rules: Normalisation = NORMALISATION


@dataclass(frozen=True)
class Match:
    """What came of one query. posterior None: it could not be asked, and why. records: (id, province, share).

    best_levels: per field of the schema, the agreement level of the best candidate; empty when there is none.
    """

    query_id: str
    posterior: Posterior | None
    refused: str | None
    records: tuple[tuple[str, str, float], ...]
    decision: Decision | None = None
    best_levels: tuple[int, ...] = ()


def read_table(path: Path, columns: Sequence[str], *, key: str | None = None) -> pl.DataFrame:
    """Read one of the benchmark's CSV files, every value as text, blanks as null.

    key: a column in which no value may be missing or stand twice.
    Raises ConfigError when it is missing, not UTF-8, empty, or its columns are not exactly those expected.
    """
    try:
        table = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except pl.exceptions.NoDataError:
        raise ConfigError(f"{path} is empty") from None
    except pl.exceptions.PolarsError:
        raise ConfigError(f"{path} is not a CSV file in UTF-8 with as many values in every row") from None
    absent, strange = set(columns) - set(table.columns), set(table.columns) - set(columns)
    if absent or strange:
        # Counted, not named: without a header, the first row is a person.
        raise ConfigError(
            f"{path}: {len(absent)} columns are missing, {len(strange)} are unknown",
            hint=f"columns are {', '.join(columns)}",
        )
    if not table.height:
        raise ConfigError(f"{path} has a header and no rows")
    table = table.select(pl.col(columns).replace("", None))
    if key is not None:
        unusable = table[key].null_count() + int(table[key].drop_nulls().is_duplicated().sum())
        if unusable:
            raise ConfigError(f"{path}: {unusable} rows have no {key} of their own")
    return table


def read_registry(path: Path) -> pl.DataFrame:
    """Read registry.csv. Raises ConfigError as read_table does, and for a province that is no plain code."""
    registry = read_table(path, REGISTRY_COLUMNS)
    strange = int((~registry["province"].drop_nulls().str.contains(PROVINCE_CODE)).sum())
    if strange:
        raise ConfigError(f"{path}: {strange} rows have a province that is not a code of letters and digits")
    return registry


def read_errors(path: Path, queries: pl.DataFrame) -> pl.DataFrame:
    """Read errors.csv: what is wrong with each query. Raises ConfigError when it names queries that are not there."""
    errors = read_table(path, ERROR_COLUMNS, key="query_id")
    unknown = errors.join(queries, on="query_id", how="anti").height
    if unknown:
        raise ConfigError(f"{path}: {unknown} unknown queries", hint="queries and errors must come from one population")
    return errors


def read_truth(path: Path, queries: pl.DataFrame, registry: pl.DataFrame) -> dict[str, tuple[str, str] | None]:
    """Read where each query is registered: query -> (record, province), None for nowhere.

    Raises ConfigError when it names a query, or a record of a province, that is not in the other files.
    """
    truth = read_table(path, TRUTH_COLUMNS, key="query_id")
    unknown = truth.join(queries, on="query_id", how="anti").height
    named = truth.filter(pl.col("record_id").is_not_null())
    lost = named.join(registry, on=["record_id", "province"], how="anti").height
    missing = queries.join(truth, on="query_id", how="anti").height
    if unknown or lost or missing:
        raise ConfigError(
            f"{path}: {unknown} unknown queries, {lost} unknown records, {missing} queries without a truth",
            hint="registry, queries and truth must come from one population",
        )
    return {query: None if record is None else (record, province) for query, record, province in truth.iter_rows()}


def bench_keys() -> FieldKeys:
    """Return keys for measuring: the same in every run, so that runs compare; never a federation's."""
    return FieldKeys.derive(hashlib.sha256(b"pulang bench").digest(), PERSON_SCHEMA, epoch=1)


def for_provinces(model: MatchModel, provinces: Sequence[str]) -> MatchModel:
    """Return the model for the provinces of a benchmark; one it does not know gets the mean prior of those it does."""
    known = [model.priors[code] for code in provinces if code in model.priors]
    mean = sum(known) / len(known) if known else 1.0
    return model.with_priors({code: model.priors.get(code, mean) for code in provinces})


# --- index ----------------------------------------------------------------------------------------------------------


def build_indexes(
    registry: pl.DataFrame,
    directory: Path,
    keys: FieldKeys,
    now: datetime,
    progress: Callable[[int], None] = lambda _: None,
    *,
    rules: Normalisation = NORMALISATION,
    at_rest: AtRestKey | None = None,
) -> Counter[str]:
    """Build one index per province under `directory`; return how many rows had what wrong (`field: reason`).

    A province of which no row can be used has no index. Raises ConfigError when that is so of all.
    """
    issues: Counter[str] = Counter()
    unusable = 0
    directory.mkdir(exist_ok=True)
    for code in sorted(set(registry["province"].drop_nulls())):
        part = registry.filter(pl.col("province") == code)
        builder = IndexBuilder(directory / code, keys, rules, at_rest=at_rest)
        for batch in part.iter_slices(BATCH_PERSONS):
            issues.update(f"{issue.field}: {issue.reason}" for issue in builder.add(record_batch(batch)))
            progress(batch.height)
        try:
            builder.finish(now, part.height)
        except SchemaError:
            builder.abandon()
            unusable += 1
    homeless = registry["province"].null_count()
    progress(homeless)
    same = ["record_id", "province"]
    twice = registry.height - registry.select(same).unique().height
    found = {
        "province: missing": homeless,
        "province: not one of its persons can be found": unusable,
        "record_id: not the first of that id in its province": twice,
    }
    issues.update({issue: count for issue, count in found.items() if count})
    if not any(directory.iterdir()):
        raise ConfigError("not one row of the registry can be used", hint=f"most of all: {_worst(issues)}")
    return issues


def _worst(issues: Counter[str]) -> str:
    return "; ".join(f"{issue}, {count} times" for issue, count in issues.most_common(3))


def record_batch(part: pl.DataFrame) -> RecordBatch:
    """Return rows of registry.csv's columns as an index takes them."""
    columns = {name: column(part[name]) for name in REGISTRY_FIELDS if name not in MOSTLY_DISTINCT}
    others = {name: Column.of_rows(packed(part[name])) for name in REGISTRY_FIELDS if name in MOSTLY_DISTINCT}
    return RecordBatch(packed(part["record_id"]), others | columns)


def column(values: pl.Series) -> Column:
    """Split a column of strings into its distinct values and per row which one."""
    distinct, codes = numbered(values)
    return Column(distinct.to_list(), codes)


@contextmanager
def open_indexes(directory: Path, keys: FieldKeys) -> Iterator[dict[str, EncodedIndex]]:
    """Open every index that `build_indexes` made."""
    with ExitStack() as stack:
        yield {
            folder.name: stack.enter_context(EncodedIndex.open(folder, keys.schema.fingerprint, keys.epoch))
            for folder in sorted(directory.iterdir())
        }


# --- questions ------------------------------------------------------------------------------------------------------


def clients(queries: pl.DataFrame) -> Iterator[tuple[str, Client]]:
    """Yield (query id, client) of every query."""
    for query, name, sex, born, birthplace, mother in queries.select(QUERY_COLUMNS).iter_rows():
        yield query, Client(name or "", sex, born, birthplace, mother)


def match_all(queries: pl.DataFrame, federation: Federation, threads: int) -> Iterator[Match]:
    """Ask every province about every query; yield matches in the order of the queries, as they are done."""
    encoder = QueryEncoder(federation.keys, federation.rules)
    indexes, model = federation.indexes, federation.model

    def ask(asked: tuple[str, Client]) -> Match:
        query_id, client = asked
        try:
            query = encoder.encode(client, federation.today)
        except FieldValueError as error:
            return Match(query_id, None, f"{error.field}: {error.reason}", ())
        found = {code: search(index, query, model) for code, index in indexes.items()}
        evidence = {code: result.evidence for code, result in found.items()}
        posterior, decision = weigh(evidence, (), model, query)
        return Match(
            query_id,
            posterior,
            None,
            _records(posterior, found, indexes),
            decision,
            _best_levels(posterior, found),
        )

    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(ask, clients(queries))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run waits for the questions under way, not for all


def _records(
    posterior: Posterior, found: Mapping[str, SearchResult], indexes: Mapping[str, EncodedIndex]
) -> tuple[tuple[str, str, float], ...]:
    """Name the best records: those of a class share its probability evenly."""
    records: list[tuple[str, str, float]] = []
    for candidate in posterior.candidates:
        share = candidate.probability / max(candidate.count, 1)
        for place, row in found[candidate.province].candidates:
            if place == candidate.class_index:
                records.append((indexes[candidate.province].record_id(row), candidate.province, share))
    records.sort(key=lambda record: -record[2])
    return tuple(records[:CANDIDATES])


def _best_levels(posterior: Posterior, found: Mapping[str, SearchResult]) -> tuple[int, ...]:
    if not posterior.candidates:
        return ()
    best = posterior.candidates[0]
    return tuple(found[best.province].evidence.class_levels[best.class_index].tolist())


# --- results --------------------------------------------------------------------------------------------------------


def write_results(out_dir: Path, matches: Iterable[Match], provinces: Sequence[str]) -> list[Match]:
    """Write candidates.csv, provinces.csv and refused.csv as matches arrive; return them all.

    A KeyboardInterrupt ends the run early: what has arrived is written and returned.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    kept: list[Match] = []
    with ExitStack() as stack:
        writers = {}
        for name, header in (
            ("candidates", ("query_id", "rank", "record_id", "province", "probability")),
            ("provinces", ("query_id", "province", "probability")),
            ("refused", ("query_id", "reason")),
        ):
            stream = stack.enter_context((out_dir / f"{name}.csv").open("w", newline="", encoding="utf-8"))
            writers[name] = csv.writer(stream, lineterminator="\n")
            writers[name].writerow(header)
        try:
            for match in matches:
                kept.append(match)
                if match.refused is not None:
                    writers["refused"].writerow((match.query_id, match.refused))
                for rank, (record, province, share) in enumerate(match.records, start=1):
                    writers["candidates"].writerow((match.query_id, rank, record, province, f"{share:.6f}"))
                for province, share in _shares(match, provinces):
                    writers["provinces"].writerow((match.query_id, province, f"{share:.6f}"))
        except KeyboardInterrupt:
            pass  # what is there is worth having; the caller sees how much it is
    return kept


def _shares(match: Match, provinces: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield the probability of every province and of none; a query that could not be asked names no province."""
    for code in provinces:
        yield code, match.posterior.provinces.get(code, 0.0) if match.posterior else 0.0
    yield NONE, match.posterior.none if match.posterior else 1.0


def measure(matches: Sequence[Match], truth: Mapping[str, tuple[str, str] | None]) -> ProvinceMetrics:
    """Measure the likeliest province of every match against the truth; a query that could not be asked is lost."""
    return grade(matches, truth).province.metrics()


def write_metrics(out_dir: Path, facts: Mapping[str, object]) -> None:
    """Write metrics.json: the figures, and what they were measured on."""
    (out_dir / "metrics.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
