"""Training of a match model from clients whose records are known: m and u0 by counting, calibration by likelihood.

Nothing here sees a raw value: clients come encoded, records as rows of an index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matching.schema import NAME_LEVELS, LinkageSchema
from matching.search import field_levels, search
from matching.weights import GROUPS, FieldWeights, MatchModel, question_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from matching.index import EncodedIndex
    from matching.question import EncodedQuery, Evidence

MAX_SCALE: Final = 1.2  # evidence may be discounted at will, but hardly doubled on the word of a few dozen clients
SMOOTHING: Final = 0.5  # pseudo-observations per level, so that a level never seen in training is rare, not impossible


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a training client is registered: province code and row of that province's index; None = nowhere."""

    province: str | None
    row: int = -1


def count_levels(
    indexes: Mapping[str, EncodedIndex],
    queries: Sequence[EncodedQuery],
    truths: Sequence[Truth],
    model: MatchModel,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, FieldWeights]]:
    """Estimate m and u0 of every field and group from clients of known truth.

    m: share of true pairs per level. u0: share of all persons per level, averaged over questions.
    """
    schema = model.schema
    hits = {(s.name, g): np.full(s.levels, SMOOTHING) for s in schema.fields for g in GROUPS[s.kind]}
    null = {(s.name, g): np.zeros(s.levels) for s in schema.fields for g in GROUPS[s.kind]}
    for query, truth in zip(queries, truths, strict=True):
        for f, spec in enumerate(schema.fields):
            group = question_group(query, spec.name)
            if group is None:
                continue
            histogram = np.zeros(spec.levels)
            for code, index in indexes.items():
                levels = field_levels(index, query, model, spec.name)
                histogram += np.bincount(levels, weights=index.array(f"{spec.name}.counts"), minlength=spec.levels)
                if code == truth.province:
                    hits[spec.name, group][levels[index.array("rows")[truth.row, f]]] += 1
            histogram[0] = 0
            if histogram.sum():
                null[spec.name, group] += histogram / histogram.sum()
        progress()
    out: dict[str, dict[str, FieldWeights]] = {}
    for (name, group), counts in hits.items():
        counts[0] = 0
        u0 = null[name, group] + 1e-9
        u0[0] = 0
        out.setdefault(name, {})[group] = FieldWeights(counts / counts.sum(), u0 / u0.sum())
    return out


def gather_evidence(
    indexes: Mapping[str, EncodedIndex],
    queries: Sequence[EncodedQuery],
    model: MatchModel,
    progress: Callable[[], None] = lambda: None,
) -> list[dict[str, Evidence]]:
    """Ask every index every question."""
    out = []
    for query in queries:
        out.append({code: search(index, query, model).evidence for code, index in indexes.items()})
        progress()
    return out


@dataclass(frozen=True, slots=True)
class _Replay:
    """Evidence of many questions as arrays: unscaled bits (q, p, c, f), counts over sizes (q, p, c), truth (q,)."""

    bits: NDArray[np.float32]
    shares: NDArray[np.float32]
    prior: NDArray[np.float64]
    home: NDArray[np.int64]

    def log_likelihood(self, scales: NDArray[np.float64], temperature: float, none_factor: float) -> float:
        weights = self.bits @ scales.astype(np.float32)
        ratio = (self.shares * np.exp2(weights)).sum(axis=2, dtype=np.float64)
        masses = self.prior * np.maximum(ratio, 1e-30) ** temperature
        none = none_factor * (1 - self.prior.sum())
        total = masses.sum(axis=1) + none
        held = np.where(self.home >= 0, masses[np.arange(len(masses)), self.home], none)
        return float(np.log(held / total).mean())


def calibrate(
    model: MatchModel,
    evidence: Sequence[Mapping[str, Evidence]],
    queries: Sequence[EncodedQuery],
    truths: Sequence[Truth],
) -> MatchModel:
    """Fit field scales, temperature and the share of "none" to the truth, by maximum likelihood.

    Coordinate search with halving steps: a dozen smooth parameters, no gradient needed.
    """
    replay = _replay(model, evidence, queries, truths)
    names = model.schema.field_names
    x = np.array([*(model.scales[name] for name in names), model.temperature, model.none_factor])

    def value(point: NDArray[np.float64]) -> float:
        return replay.log_likelihood(point[:-2], float(point[-2]), float(point[-1]))

    best, step = value(x), 1.3
    while step > 1.01:
        improved = False
        for i in range(len(x)):
            for factor in (step, 1 / step):
                trial = x.copy()
                trial[i] *= factor
                if trial[:-2].max() > MAX_SCALE:
                    continue
                got = value(trial)
                if got > best + 1e-7:
                    x, best, improved = trial, got, True
        if not improved:
            step = float(np.sqrt(step))
    return replace(
        model,
        scales=dict(zip(names, map(float, x[:-2]), strict=True)),
        temperature=float(x[-2]),
        none_factor=float(x[-1]),
    )


def _replay(
    model: MatchModel,
    evidence: Sequence[Mapping[str, Evidence]],
    queries: Sequence[EncodedQuery],
    truths: Sequence[Truth],
) -> _Replay:
    unscaled = replace(model, scales=dict.fromkeys(model.schema.field_names, 1.0))
    codes = tuple(evidence[0])
    fields = np.arange(len(model.schema.fields))
    bits, shares = [], []
    for answers, query in zip(evidence, queries, strict=True):
        pooled = [np.sum([answers[c].histograms[f] for c in codes], axis=0) for f in fields]
        table = unscaled.bits(query, pooled)
        rows_bits, rows_shares = [], []
        for code in codes:
            answer = answers[code]
            room = 16 - len(answer.class_counts)
            rows_bits.append(np.pad(table[fields, answer.class_levels], ((0, room), (0, 0))))
            rows_shares.append(np.pad(answer.class_counts / answer.size, (0, room)))
        bits.append(rows_bits)
        shares.append(rows_shares)
    home = np.array([codes.index(t.province) if t.province is not None else -1 for t in truths])
    prior = np.array([model.coverage * model.priors[code] for code in codes])
    return _Replay(np.array(bits, dtype=np.float32), np.array(shares, dtype=np.float32), prior, home)


def untrained_model(schema: LinkageSchema, priors: Mapping[str, float], recipe: Mapping[str, Any]) -> MatchModel:
    """Return the model training starts from: hand-set tables, flat m."""
    fields: dict[str, dict[str, FieldWeights]] = {}
    for spec in schema.fields:
        flat = np.ones(spec.levels) / (spec.levels - 1)
        flat[0] = 0
        fields[spec.name] = {group: FieldWeights(flat, flat) for group in GROUPS[spec.kind]}
    return MatchModel(
        schema=schema,
        token_table=token_table(),
        initial_similarity=INITIAL_SIMILARITY,
        name_cells=name_cells(),
        fields=fields,
        scales=dict.fromkeys(schema.field_names, 1.0),
        pseudo_count=PSEUDO_COUNT,
        temperature=1.0,
        none_factor=1.0,
        coverage=0.7,
        priors=priors,
        release_threshold=0.95,
        absence_threshold=0.8,
        recipe=recipe,
    )


PSEUDO_COUNT: Final = 100.0
INITIAL_SIMILARITY: Final = 128
FOUND_EDGES: Final = (1, 8, 14, 19, 23, 26, 29, 31)  # thirty-seconds of the question's rarity that were found
USED_EDGES: Final = (15, 24, 30)  # thirty-seconds of the registered name's rarity that were used


def token_table() -> NDArray[np.uint8]:
    """Return similarity 0..255 by Dice of spelling (rows) and of sound (columns) in sixteenths."""
    steps = np.arange(17) / 16
    spelling, sound = steps[:, None], steps[None, :]
    closeness = np.maximum(0.6 * spelling + 0.4 * sound, np.maximum(0.9 * spelling, 0.96 * sound))
    closeness = np.where((spelling == 1) & (sound == 1), 1.0, closeness)
    value = np.clip((closeness - 0.42) / 0.58, 0, 1)
    return np.round(255 * value).astype(np.uint8)


def name_cells() -> NDArray[np.uint8]:
    """Return the level by shares of rarity found (rows) and used (columns), each in thirty-seconds."""
    found = np.searchsorted(FOUND_EDGES, np.arange(33), side="right")
    used = np.searchsorted(USED_EDGES, np.arange(33), side="right")
    cells = 1 + np.where(found[:, None] == 0, 0, 1 + (found[:, None] - 1) * (len(USED_EDGES) + 1) + used[None, :])
    assert cells.max() == NAME_LEVELS - 1
    return cells.astype(np.uint8)
