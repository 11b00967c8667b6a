"""Bulk linkage: many records against one registry, all pairs or those that share a blocking key.

Memory holds the links that were kept, never the pairs that were weighed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matching.index import EncodedIndex, lay_out
from matching.kernels import collect_rows, level_histogram
from matching.schema import FieldKind, require_same
from matching.search import CROWD_BITS, field_levels, pruning_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from matching.blocking import Blocks
    from matching.question import EncodedQuery
    from matching.schema import LinkageSchema
    from matching.weights import MatchModel

RECORDS_PER_BATCH: Final = 256
# Behind blocking most of a registry is never looked at: this many of its persons, drawn once, stand for all of them
# when the question's own null is counted.
NULL_SAMPLE: Final = 1 << 14
SAMPLE_SEED: Final = 1  # the same persons in every run, so that runs compare


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A record to be linked: its id, its encoding as a question, and the blocking keys to look under (if any)."""

    record_id: str
    query: EncodedQuery
    blocks: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class LinkBatch:
    """The links of some records, in the records' order, best first within one.

    records: (links,) int64, numbers of the linked records from 0, in the order in which they came; record_ids: theirs.
    rows: (links,) uint32 of the registry. bits: (links,) float32 match weights. probability: (links,) float64, that
    this is the record's person, when the registry holds at most one who is. done: records worked through, with a link
    or without. compared: pairs weighed for that.
    """

    records: NDArray[np.int64]
    record_ids: tuple[str, ...]
    rows: NDArray[np.uint32]
    bits: NDArray[np.float32]
    probability: NDArray[np.float64]
    done: int
    compared: int


def link(
    records: Iterable[LinkRecord],
    registry: EncodedIndex,
    model: MatchModel,
    *,
    threshold_bits: float | None = None,
    top_k: int | None = None,
    blocks: Blocks | None = None,
    threads: int = 1,
) -> Iterator[LinkBatch]:
    """Yield the links of the records, a batch of records at a time.

    threshold_bits: the least match weight of a link. top_k: at most so many links a record. One must be given; without
    a threshold, pairs more than CROWD_BITS under log2 of the registry's size are still no links.
    blocks: compare only rows of the registry that share a blocking key with the record; None: all of them.
    Raises SchemaMismatchError when records and registry were encoded unlike, ValueError without a limit.
    """
    if threshold_bits is None and top_k is None:
        raise ValueError("every pair would be a link: give a threshold or a number of links a record")
    linker = _Linker(registry, model, threshold_bits, top_k, blocks)
    waiting, start = iter(records), 0
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(waiting, RECORDS_PER_BATCH)):
            found = list(pool.map(linker.links, batch))
            counts = [len(each.rows) for each in found]
            yield LinkBatch(
                records=np.repeat(np.arange(start, start + len(batch)), counts),
                record_ids=tuple(np.repeat([record.record_id for record in batch], counts).tolist()),
                rows=np.concatenate([each.rows for each in found]),
                bits=np.concatenate([each.bits for each in found]),
                probability=np.concatenate([each.probability for each in found]),
                done=len(batch),
                compared=sum(each.compared for each in found),
            )
            start += len(batch)


def one_to_one(batches: Iterable[LinkBatch]) -> LinkBatch:
    """Keep links best first, none whose record or whose row is already linked.

    Equal ones by probability, then by record and row. Greedy: not the assignment of greatest total weight, but nobody
    loses a link to a weaker one.
    """
    kept = list(batches) or [_NO_LINKS]
    records = np.concatenate([batch.records for batch in kept])
    rows = np.concatenate([batch.rows for batch in kept])
    bits = np.concatenate([batch.bits for batch in kept])
    probability = np.concatenate([batch.probability for batch in kept])
    ids = [record_id for batch in kept for record_id in batch.record_ids]
    taken_records: set[int] = set()
    taken_rows: set[int] = set()
    chosen: list[int] = []
    for at in np.lexsort((rows, records, -probability, -bits)).tolist():
        record, row = int(records[at]), int(rows[at])
        if record not in taken_records and row not in taken_rows:
            taken_records.add(record)
            taken_rows.add(row)
            chosen.append(at)
    chosen.sort()
    return LinkBatch(
        records=records[chosen],
        record_ids=tuple(ids[at] for at in chosen),
        rows=rows[chosen],
        bits=bits[chosen],
        probability=probability[chosen],
        done=sum(batch.done for batch in kept),
        compared=sum(batch.compared for batch in kept),
    )


_NO_LINKS: Final = LinkBatch(
    np.zeros(0, np.int64), (), np.zeros(0, np.uint32), np.zeros(0, np.float32), np.zeros(0, np.float64), 0, 0
)


@dataclass(frozen=True, slots=True)
class _Links:
    rows: NDArray[np.uint32]
    bits: NDArray[np.float32]
    probability: NDArray[np.float64]
    compared: int


class _Linker:
    """Links one record at a time; holds nothing between two, so several threads may share it."""

    def __init__(
        self,
        registry: EncodedIndex,
        model: MatchModel,
        threshold_bits: float | None,
        top_k: int | None,
        blocks: Blocks | None,
    ) -> None:
        self._registry = registry
        self._model = model
        self._threshold_bits = threshold_bits
        self._top_k = top_k
        self._blocks = blocks
        self._sample = registry if blocks is None else _sample(registry, model.schema)

    def links(self, record: LinkRecord) -> _Links:
        query, registry, model = record.query, self._registry, self._model
        identity = (bytes.fromhex(registry.manifest.fingerprint), registry.manifest.epoch)
        require_same(identity, (query.fingerprint, query.epoch))
        compared, visited = registry, None
        if self._blocks is not None:
            visited = self._blocks.candidates(record.blocks)
            compared = select(registry, model.schema, visited)
        levels = self._levels(compared, query)
        histograms = self._histograms(compared, levels)
        if self._blocks is not None:
            # The sample, blown up to the registry's size, misses what is rare; that lies among the compared.
            sampled = self._histograms(self._sample, self._levels(self._sample, query))
            scale = registry.size / self._sample.size
            pairs = zip(sampled, histograms, strict=True)
            histograms = [np.maximum((whole * scale).astype(np.int64), part) for whole, part in pairs]
        # Who stays under the floor can neither be a link nor, in a crowd, make one less likely.
        floor = float(np.log2(registry.size)) - CROWD_BITS
        if self._threshold_bits is not None:
            floor = min(floor, self._threshold_bits)
        bits = model.bits(query, histograms, discounted=True)
        rows, weights = _weigh(compared, levels, bits, pruning_order(bits, histograms), floor)
        if visited is not None:
            rows = visited[rows]
        return self._kept(query, rows, weights, compared.size)

    def _histograms(self, part: EncodedIndex, levels: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.int64]]:
        found = []
        for spec, level in zip(self._model.schema.fields, levels, strict=True):
            histogram = np.zeros(spec.levels, dtype=np.int64)
            level_histogram(level, part.array(f"{spec.name}.counts"), part.size, histogram)
            found.append(histogram)
        return found

    def _levels(self, part: EncodedIndex, query: EncodedQuery) -> list[NDArray[np.uint8]]:
        return [field_levels(part, query, self._model, name) for name in self._model.schema.field_names]

    def _kept(self, query: EncodedQuery, rows: NDArray[np.uint32], bits: NDArray[np.float32], compared: int) -> _Links:
        ratio = np.exp2(bits.astype(np.float64)) / self._registry.size
        total = float(ratio.sum())
        # As matching.posterior weighs a single province that answered.
        mass = self._model.coverage * total**self._model.temperature if total else 0.0
        mass /= 2.0 ** self._model.shape_bits(query)
        each = ratio * self._registry.size
        likeness = (each.sum() - each.max(initial=0.0)) / self._registry.size
        none = self._model.none_factor * (1.0 - self._model.coverage) * float(self._model.crowd.factor(likeness))
        best = np.lexsort((rows, -bits))
        if self._threshold_bits is not None:
            best = best[bits[best] >= self._threshold_bits]
        best = best[: self._top_k]
        share = ratio[best] * (mass / (mass + none) / total) if total else ratio[best]
        return _Links(rows[best], bits[best], share, compared)


def _weigh(
    part: EncodedIndex,
    levels: Sequence[NDArray[np.uint8]],
    bits: NDArray[np.float32],
    pruning: tuple[NDArray[np.int64], NDArray[np.float32]],
    floor: float,
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the rows of a registry, or of a part, whose match weight reaches the floor, and their weights."""
    bases = np.zeros(len(levels), dtype=np.int64)
    np.cumsum([len(level) for level in levels[:-1]], out=bases[1:])
    flat = np.concatenate(levels)
    rows, weights = [_NO_LINKS.rows], [_NO_LINKS.bits]
    for start, block in part.blocks():
        places = np.empty(block.shape[1], dtype=np.uint32)
        sums = np.empty(block.shape[1], dtype=np.float32)
        found = collect_rows(block, flat, bases, bits, *pruning, np.float32(floor), places, sums)
        rows.append(places[:found] + np.uint32(start))
        weights.append(sums[:found].copy())
    return np.concatenate(rows), np.concatenate(weights)


def _sample(registry: EncodedIndex, schema: LinkageSchema) -> EncodedIndex:
    if registry.size <= NULL_SAMPLE:
        return registry
    rng = np.random.Generator(np.random.PCG64(SAMPLE_SEED))
    return select(registry, schema, np.sort(rng.choice(registry.size, NULL_SAMPLE, replace=False)))


def select(registry: EncodedIndex, schema: LinkageSchema, rows: NDArray[np.integer[Any]]) -> EncodedIndex:
    """Return an index, in memory, of some rows of a registry and of the values they have; it holds no record ids."""
    numbers = registry.numbers(rows)
    arrays: dict[str, NDArray[Any]] = {}
    for f, spec in enumerate(schema.fields):
        # Value 0 is "missing" in every index, used or not.
        used, places = np.unique(np.append(np.uint32(0), numbers[f]), return_inverse=True)
        numbers[f] = places[1:]
        arrays[f"{spec.name}.counts"] = np.bincount(places[1:], minlength=len(used)).astype(np.int64)
        if spec.kind is FieldKind.NAME:
            arrays |= _select_names(registry, spec.name, used)
        else:
            parts = ("values", "filters", "bits") if spec.kind is FieldKind.PLACE else ("values",)
            arrays |= {f"{spec.name}.{part}": registry.array(f"{spec.name}.{part}")[used] for part in parts}
    arrays["rows"] = lay_out(numbers)
    return EncodedIndex(replace(registry.manifest, persons=len(rows)), arrays, ())


def _select_names(registry: EncodedIndex, name: str, used: NDArray[np.uint32]) -> dict[str, NDArray[Any]]:
    offsets, tokens = registry.array(f"{name}.offsets"), registry.array(f"{name}.tokens")
    starts = offsets[used]
    lengths = offsets[used.astype(np.int64) + 1] - starts
    stops = np.append(0, np.cumsum(lengths))
    members = tokens[np.arange(stops[-1]) - np.repeat(stops[:-1] - starts, lengths)]
    distinct, places = np.unique(members, return_inverse=True)
    selected = {part: registry.array(f"{name}.{part}")[distinct] for part in ("filters", "bits", "weights")}
    return {
        f"{name}.offsets": stops.astype(np.int64),
        f"{name}.tokens": places.astype(np.uint32),
        f"{name}.selected": distinct,
        **{
            f"{name}.{part}": registry.array(f"{name}.{part}")
            for part in ("near", "near_tokens", "calls", "call_tokens")
        },
        **{f"{name}.{part}": values for part, values in selected.items()},
    }
