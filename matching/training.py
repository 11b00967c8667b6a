"""Training of a match model from clients whose records are known: m and u0 by counting, calibration by likelihood.

Nothing here sees a raw value: clients come encoded, records as rows of an index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import minimize

from matching.question import CLASSES_PER_ANSWER
from matching.schema import NAME_LEVELS, FieldKind, LinkageSchema
from matching.search import field_levels, search
from matching.weights import GROUPS, Crowd, FieldWeights, MatchModel, question_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from matching.index import EncodedIndex
    from matching.question import EncodedQuery, Evidence

FIRST_SLOPE: Final = 0.5
MAX_SCALE: Final = 1.2  # evidence may be discounted at will, but hardly doubled on the word of a few dozen clients
SMOOTHING: Final = 0.5  # pseudo-observations per level, so that a level never seen in training is rare, not impossible
SHARED_PAIRS: Final = 20.0  # pairs' worth of what holds for all questions, in every group of questions


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

    m: share of true pairs per level; a small group leans on the same group of other names, if it is of one, and that on
    all questions of the field. u0: share of all persons per level, averaged over questions; of a group of names that no
    question was of, that of another name.
    """
    schema = model.schema
    hits = {(s.name, g): np.zeros(s.levels) for s in schema.fields for g in GROUPS[s.kind]}
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
                    hits[spec.name, group][levels[index.numbers(np.array([truth.row]))[f, 0]]] += 1
            histogram[0] = 0
            if histogram.sum():
                null[spec.name, group] += histogram / histogram.sum()
        progress()
    out: dict[str, dict[str, FieldWeights]] = {}
    for spec in schema.fields:
        groups = GROUPS[spec.kind]
        shared = _shares(np.sum([hits[spec.name, group] for group in groups], axis=0) + SMOOTHING)
        out[spec.name] = {}
        # What a mother's initial agrees in is known from other initials, before it is from other mothers' names.
        others = [s.name for s in schema.fields if s != spec and s.kind is spec.kind is FieldKind.NAME]
        for group in groups:
            alike = np.sum([hits[name, group] for name in others], axis=0) if others else np.zeros(spec.levels)
            nearest = _shares(alike + SHARED_PAIRS * shared)
            met = next((name for name in (spec.name, *others) if null[name, group].any()), spec.name)
            out[spec.name][group] = FieldWeights(
                _shares(hits[spec.name, group] + SHARED_PAIRS * nearest), _shares(null[met, group] + 1e-9)
            )
    return out


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares of all levels but "missing"."""
    known = counts.copy()
    known[0] = 0.0
    return np.asarray(known / known.sum())


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
    """Evidence of many questions as arrays.

    bits: (q, p, c, f), unscaled. shares, counts: (q, p, c), persons of a class over their registry's, and persons;
    0 for padding. persons: (q,) in all registries. prior: (p,). home: (q,) index of the home province, -1 for none.
    """

    bits: NDArray[np.float32]
    shares: NDArray[np.float64]
    counts: NDArray[np.float64]
    persons: NDArray[np.float64]
    prior: NDArray[np.float64]
    home: NDArray[np.int64]

    def log_likelihood(self, point: _Point) -> float:
        """Return the mean log probability of where the clients are at home, by the posterior's own arithmetic."""
        each = np.exp2(self.bits @ point.scales) * (self.counts > 0)
        likeness = (self.counts * each).sum(axis=(1, 2)) - each.max(axis=(1, 2))
        masses = self.prior * np.maximum((self.shares * each).sum(axis=2), 1e-30) ** point.temperature
        none = point.none_factor * (1 - self.prior.sum()) * point.crowd.factor(likeness / self.persons)
        held = np.where(self.home >= 0, masses[np.arange(len(masses)), self.home], none)
        return float(np.log(held / (masses.sum(axis=1) + none)).mean())


@dataclass(frozen=True, slots=True)
class _Point:
    """What calibration looks for. As a vector: logarithms, because none of it may be negative."""

    scales: NDArray[np.float64]
    temperature: float
    none_factor: float
    crowd: Crowd

    def vector(self) -> NDArray[np.float64]:
        values = (*self.scales, self.temperature, self.none_factor, self.crowd.slope, self.crowd.power)
        return np.log(np.maximum(values, 1e-3))

    @classmethod
    def of(cls, vector: NDArray[np.float64]) -> _Point:
        *scales, temperature, none_factor, slope, power = np.exp(vector).tolist()
        return cls(np.array(scales), temperature, none_factor, Crowd(slope, power))


def calibrate(
    model: MatchModel,
    evidence: Sequence[Mapping[str, Evidence]],
    queries: Sequence[EncodedQuery],
    truths: Sequence[Truth],
) -> MatchModel:
    """Fit field scales, temperature, share of "none" and crowd to the truth, by maximum likelihood (L-BFGS-B)."""
    replay = _replay(model, evidence, queries, truths)
    names = model.schema.field_names
    start = _Point(
        np.array([model.scales[name] for name in names]), model.temperature, model.none_factor, Crowd(FIRST_SLOPE, 0.5)
    ).vector()
    limits = [(None, float(np.log(MAX_SCALE)))] * len(names) + [(None, None)] * (len(start) - len(names))
    found = minimize(
        lambda vector: -replay.log_likelihood(_Point.of(vector)), start, method="L-BFGS-B", bounds=limits,
        options={"eps": 1e-4, "maxiter": 100},
    )  # fmt: skip
    best = _Point.of(found.x)
    return replace(
        model,
        scales=dict(zip(names, best.scales.tolist(), strict=True)),
        temperature=best.temperature,
        none_factor=best.none_factor,
        crowd=best.crowd,
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
    shape = (len(queries), len(codes), CLASSES_PER_ANSWER)
    bits, counts, shares = np.zeros((*shape, len(fields)), np.float32), np.zeros(shape), np.zeros(shape)
    persons = np.zeros(len(queries))
    for q, (answers, query) in enumerate(zip(evidence, queries, strict=True)):
        table = unscaled.bits(
            query, [np.sum([answers[c].histograms[f] for c in codes], axis=0) for f in fields], discounted=True
        )
        for p, code in enumerate(codes):
            answer = answers[code]
            held = len(answer.class_counts)
            bits[q, p, :held] = table[fields, answer.class_levels]
            counts[q, p, :held] = answer.class_counts
            shares[q, p, :held] = answer.class_counts / answer.size
            persons[q] += answer.size
    home = np.array([codes.index(t.province) if t.province is not None else -1 for t in truths])
    prior = np.array([model.coverage * model.priors[code] for code in codes])
    return _Replay(bits, shares, counts, persons, prior, home)


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
        discounts={spec.name: NAME_DISCOUNT if spec.kind is FieldKind.NAME else 0.0 for spec in schema.fields},
        temperature=1.0,
        none_factor=1.0,
        crowd=Crowd(0.0, 1.0),
        coverage=0.7,
        priors=priors,
        release_threshold=0.95,
        absence_threshold=0.8,
        recipe=recipe,
    )


PSEUDO_COUNT: Final = 100.0
INITIAL_SIMILARITY: Final = 128
NAME_DISCOUNT: Final = 0.8  # persons; of seeds 9000 to 9002, .6 to .9 do as well
FOUND_EDGES: Final = (1, 8, 14, 18, 21, 24, 27, 30, 32)  # thirty-seconds of the question's rarity that were found
USED_EDGES: Final = (10, 17, 24, 30)  # thirty-seconds of the registered name's rarity that were used

# What a pair of tokens is worth, in bits: a logistic regression on 10,200 pairs of clients' tokens with their
# registered ones (seeds 9101, 9202, 9303) against all registered tokens. Spelling and sound share bigrams, so their
# product counts against them; a slip of the pen costs the fewer bigrams the more it is believed.
_NOTHING_ALIKE: Final = -16.7
_SPELLING: Final = 23.4
_SOUND: Final = 18.1
_BOTH: Final = -17.5
_SAME_SOUND: Final = 0.7
_NEAR: Final = 8.1
_NEAR_SPELLING: Final = -5.3
_CALLED: Final = 6.4  # whatever the letters say
_EXACT: Final = 10.0
_LEAST_ALIKE: Final = 0.25  # mean Dice; nothing alike but a shared near form is no slip of the pen
_BEST_INEXACT: Final = 0.96


def token_table() -> NDArray[np.uint8]:
    """Return similarity 0..255 by nearness (0 none, 1 near, 2 called so), Dice of spelling and of sound in sixteenths.

    (3, 17, 17) uint8. 255 is for equal tokens alone; in no direction does more likeness give less.
    """
    steps = np.arange(17) / 16
    spelling, sound = steps[:, None], steps[None, :]
    far = _NOTHING_ALIKE + _SPELLING * spelling + _SOUND * sound + _BOTH * spelling * sound + _SAME_SOUND * (sound == 1)
    near = far + np.where(spelling + sound >= 2 * _LEAST_ALIKE, _NEAR + _NEAR_SPELLING * spelling, 0.0)
    bits = np.stack([far, near, np.maximum(far, _CALLED)])
    bits = np.maximum.accumulate(np.maximum.accumulate(bits, axis=1), axis=2)
    value = np.clip(bits / _EXACT, 0, _BEST_INEXACT) ** 0.8
    value[:, 16, 16] = 1.0
    return np.round(255 * value).astype(np.uint8)


def name_cells() -> NDArray[np.uint8]:
    """Return the level by shares of rarity found (rows) and used (columns), each in thirty-seconds."""
    found = np.searchsorted(FOUND_EDGES, np.arange(33), side="right")
    used = np.searchsorted(USED_EDGES, np.arange(33), side="right")
    cells = 1 + np.where(found[:, None] == 0, 0, 1 + (found[:, None] - 1) * (len(USED_EDGES) + 1) + used[None, :])
    assert cells.max() == NAME_LEVELS - 1
    return cells.astype(np.uint8)
