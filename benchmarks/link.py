"""Bulk linkage of two files: encode both, compare all pairs or those that share a blocking key, say what was missed."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from benchmarks.match import BATCH_PERSONS, REGISTRY_COLUMNS, REGISTRY_FIELDS, read_table, record_batch
from matching.blocking import BlockEncoder, Blocks
from matching.encoding import QueryEncoder
from matching.errors import FieldValueError
from matching.index import EncodedIndex, IndexBuilder
from matching.link import LinkRecord, link, one_to_one
from matching.schema import PERSON_SCHEMA
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import date, datetime
    from pathlib import Path

    from matching.keys import FieldKeys
    from matching.link import LinkBatch
    from matching.weights import MatchModel

TRUTH_COLUMNS: Final = ("record_id_a", "record_id_b")
LINK_COLUMNS: Final = ("record_id_a", "record_id_b", "match_weight_bits", "probability")
CHECKED_RECORDS: Final = 300  # compared with everybody where no truth is known
SURE: Final = 0.5  # a link of the full scan at least this probable is one that blocking should not lose


@dataclass(frozen=True)
class Registry:
    """The file that is linked to: its index, its blocking keys if any, and what was wrong with its rows."""

    index: EncodedIndex
    blocks: Blocks | None
    issues: Counter[str]


@dataclass(frozen=True)
class Completeness:
    """How many of the pairs that should have been compared were. reference: what "should" means."""

    compared: int
    pairs: int
    reference: str

    @property
    def share(self) -> float:
        """Pairs completeness; 1 where there was nothing to find."""
        return self.compared / self.pairs if self.pairs else 1.0


@dataclass(frozen=True)
class LinkQuality:
    """Links against the truth."""

    links: int
    right: int
    pairs: int

    @property
    def precision(self) -> float:
        """Share of the links that are true."""
        return self.right / self.links if self.links else 1.0

    @property
    def recall(self) -> float:
        """Share of the true pairs that are links."""
        return self.right / self.pairs if self.pairs else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def read_records(path: Path) -> pl.DataFrame:
    """Read a file of registry.csv's columns. Raises ConfigError when a record id is missing or stands twice."""
    records = read_table(path, REGISTRY_COLUMNS)
    missing = records["record_id"].null_count()
    twice = records.height - records["record_id"].n_unique()
    if missing or twice:
        raise ConfigError(
            f"{path}: {missing} rows have no record_id, {twice} repeat another's",
            hint="a link names two records: give every row an id of its own",
        )
    return records


def read_pairs(path: Path, a: pl.DataFrame, b: pl.DataFrame) -> set[tuple[str, str]]:
    """Read the true pairs. Raises ConfigError when one names a record that is not in its file."""
    truth = read_table(path, TRUTH_COLUMNS)
    named = truth.drop_nulls()
    lost_a = named.join(a, left_on="record_id_a", right_on="record_id", how="anti").height
    lost_b = named.join(b, left_on="record_id_b", right_on="record_id", how="anti").height
    if lost_a or lost_b or named.height != truth.height:
        raise ConfigError(
            f"{path}: {lost_a} unknown records of A, {lost_b} of B, {truth.height - named.height} rows with a blank",
            hint=f"columns are {', '.join(TRUTH_COLUMNS)}; leave out who has no partner",
        )
    return set(named.iter_rows())


def build(
    records: pl.DataFrame,
    directory: Path,
    keys: FieldKeys,
    now: datetime,
    *,
    phonetic: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> Registry:
    """Encode the file that is linked to."""
    issues: Counter[str] = Counter()
    builder, encoder = IndexBuilder(directory, keys), BlockEncoder(keys)
    blocking: dict[str, tuple[int, ...]] = {}  # keys by record id: an index has an order of its own
    for part in records.iter_slices(BATCH_PERSONS):
        found = builder.add(record_batch(part))
        issues.update(f"B, {issue.field}: {issue.reason}" for issue in found)
        rejected = {issue.row for issue in found if issue.rejected}
        if phonetic:
            records_of = zip(part["record_id"], part.select(REGISTRY_FIELDS).iter_rows(named=True), strict=True)
            kept = (each for row, each in enumerate(records_of) if row not in rejected)
            blocking.update((record_id, encoder.stored(values)) for record_id, values in kept)
        progress(part.height)
    builder.finish(now, records.height)
    index = EncodedIndex.open(directory, *keys.identity)
    by_row = (blocking[index.record_id(row)] for row in range(index.size))
    return Registry(index, Blocks.build(by_row) if phonetic else None, issues)


class RecordEncoder:
    """Turns rows of the file that is linked into questions; counts what could not be used."""

    def __init__(self, keys: FieldKeys, today: date, *, phonetic: bool) -> None:
        self._queries = QueryEncoder(keys)
        self._blocks = BlockEncoder(keys) if phonetic else None
        self._today = today
        self.issues: Counter[str] = Counter()

    def records(self, rows: pl.DataFrame) -> Iterator[LinkRecord]:
        """Yield the record of every row that has a name."""
        for row in rows.select("record_id", *REGISTRY_FIELDS).iter_rows(named=True):
            record = self.record(row.pop("record_id"), row)
            if record is not None:
                yield record

    def record(self, record_id: str, values: Mapping[str, str | None]) -> LinkRecord | None:
        """Encode one record, without the fields that cannot be read; None if its name is not among the others."""
        known = dict(values)
        while True:
            try:
                query = self._queries.encode_record(known, self._today)
                break
            except FieldValueError as error:
                self.issues[f"A, {error.field}: {error.reason}"] += 1
                # The error names what was said of a birth, not the column.
                field = "birth_date" if error.field == "born" else error.field
                if known.get(field) is None:
                    raise
                known[field] = None
        if PERSON_SCHEMA.fields[0].name not in query.fields:
            self.issues["A, name: empty, or nothing is left after normalising"] += 1
            return None
        return LinkRecord(record_id, query, self._blocks.asked(known, self._today) if self._blocks else ())


@dataclass(frozen=True)
class LinkRun:
    """What came of a run. pairs: the links. done: records worked through; compared: pairs weighed for them."""

    pairs: list[tuple[str, str]]
    done: int
    compared: int

    def reduction_ratio(self, registry: EncodedIndex) -> float:
        """Return the share of all pairs that were never weighed."""
        return 1.0 - self.compared / (self.done * registry.size) if self.done else 0.0


def write_links(path: Path, batches: Iterable[LinkBatch], index: EncodedIndex, *, single: bool = False) -> LinkRun:
    """Write links as they come; a KeyboardInterrupt ends early and keeps what is there.

    single: one-to-one, so that nothing can be written before all links are known.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs: list[tuple[str, str]] = []
    done = compared = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LINK_COLUMNS)
        arriving = _until_interrupted(batches)
        for batch in (one_to_one(arriving),) if single else arriving:
            done, compared = done + batch.done, compared + batch.compared
            values = (batch.rows.tolist(), batch.bits.tolist(), batch.probability.tolist())
            for record_id, row, bits, probability in zip(batch.record_ids, *values, strict=True):
                pairs.append((record_id, index.record_id(row)))
                writer.writerow((*pairs[-1], f"{bits:.2f}", f"{probability:.6f}"))
    return LinkRun(pairs, done, compared)


def _until_interrupted(batches: Iterable[LinkBatch]) -> Iterator[LinkBatch]:
    try:
        yield from batches
    except KeyboardInterrupt:
        return  # what has arrived is worth having; the run says how much it is


def true_completeness(
    truth: set[tuple[str, str]], a: pl.DataFrame, encoder: RecordEncoder, registry: Registry
) -> Completeness:
    """Count the true pairs that are compared. A record that could not be used loses its pair."""
    row_of = {registry.index.record_id(row): row for row in range(registry.index.size)}
    partners: dict[str, list[str]] = {}
    for one, other in truth:
        partners.setdefault(one, []).append(other)
    compared = 0
    for record in encoder.records(a.filter(pl.col("record_id").is_in(list(partners)))):
        rows = [row_of[other] for other in partners[record.record_id] if other in row_of]
        if registry.blocks is not None:
            rows = np.intersect1d(rows, registry.blocks.candidates(record.blocks)).tolist()
        compared += len(rows)
    return Completeness(compared, len(truth), "the truth")


def sampled_completeness(
    a: pl.DataFrame, encoder: RecordEncoder, registry: Registry, model: MatchModel, *, seed: int
) -> Completeness:
    """Compare some records with everybody, and count which of the likely links blocking would have compared."""
    sample = a.sample(min(CHECKED_RECORDS, a.height), seed=seed)
    records = list(encoder.records(sample))
    compared = pairs = 0
    for batch in link(records, registry.index, model, top_k=1):
        for at in np.flatnonzero(batch.probability >= SURE):
            keys = records[batch.records[at]].blocks
            pairs += 1
            compared += registry.blocks is None or batch.rows[at] in registry.blocks.candidates(keys)
    return Completeness(compared, pairs, f"likely links of {len(records)} records in a full scan, seed {seed}")


def quality(pairs: Iterable[tuple[str, str]], truth: set[tuple[str, str]]) -> LinkQuality:
    """Measure links against the truth."""
    found = set(pairs)
    return LinkQuality(len(found), len(found & truth), len(truth))
