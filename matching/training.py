"""Training of a match model from clients whose records are known: m and u0 by counting, calibration by likelihood.

Nothing here sees a raw value: clients come encoded, records as rows of an index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import minimize

from matching.question import NameQuery
from matching.schema import NAME_LEVELS, FieldKind, LinkageSchema
from matching.search import field_levels, search
from matching.weights import (
    GROUPS,
    MAX_LIKENESS,
    RARITY_BANDS,
    SHAPES,
    Crowd,
    FieldWeights,
    MatchModel,
    question_group,
    question_shape,
    rarity_band,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from matching.index import EncodedIndex
    from matching.question import EncodedQuery, Evidence

LN_2: Final = math.log(2)
FIRST_SLOPE: Final = 0.5
MAX_SCALE: Final = 1.2  # evidence may be discounted at will, but hardly doubled on the word of a few dozen clients
SMOOTHING: Final = 0.5  # pseudo-observations per level, so that a level never seen in training is rare, not impossible
SHARED_PAIRS: Final = 20.0  # pairs' worth of what holds for all questions, in every group of questions
SHARED_QUESTIONS: Final = 3.0  # questions' worth of the null of all names, in every group of names
NEXT_BAND: Final = 0.1  # of a question, what a question of the next band of rarity is worth
WHOLE_GROUP: Final = 0.01  # questions' worth of the null of the whole group, in every band
LEAST_CHANCE: Final = 1e-6  # of 100,000 persons nobody was met at such a level: that says no more about it
MAX_POWER: Final = 2.0  # of the crowd
MAX_CROWD: Final = 20.0  # times "none" that a crowd adds at most: whoever lies about its persons gains no more
SHAPE_RIDGE: Final = 2.0  # of the squares of what shapes take off, in natural logarithms, over all clients together


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a training client is registered: province code and row of that province's index; None = nowhere."""

    province: str | None
    row: int = -1


@dataclass(slots=True)
class RarityTally:
    """The null of questions by how rare the name is, over several populations. Without the person looked for.

    shares: (field, group) -> (bands, levels), sums of shares; questions: (field, group) -> (bands,), how many.
    """

    shares: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict)
    questions: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict)

    def add(self, name: str, group: str, asked: NameQuery, histogram: NDArray[np.float64]) -> None:
        """Count one question. histogram: persons per level, nobody in level 0."""
        if histogram.sum():
            band = rarity_band(asked.tokens)
            shape = (RARITY_BANDS, len(histogram))
            self.shares.setdefault((name, group), np.zeros(shape))[band] += histogram / histogram.sum()
            self.questions.setdefault((name, group), np.zeros(RARITY_BANDS))[band] += 1

    def taught(self, fields: Mapping[str, Mapping[str, FieldWeights]]) -> dict[str, dict[str, FieldWeights]]:
        """Return tables that know these nulls. A name that was never asked about has those of the first that was."""
        asked = {name for name, _ in self.shares}
        out: dict[str, dict[str, FieldWeights]] = {}
        for name, groups in fields.items():
            met = next((each for each in (name, *fields) if each in asked), None)
            if met is None or groups.keys() != set(GROUPS[FieldKind.NAME]):  # not a name
                out[name] = dict(groups)
                continue
            out[name] = {group: replace(weights, chance=self._chance(met, group)) for group, weights in groups.items()}
        return out

    def _chance(self, name: str, group: str) -> NDArray[np.float64]:
        every = [(self.shares[key], self.questions[key]) for key in self.shares if key[0] == name]
        whole = np.sum([shares.sum(axis=0) for shares, _ in every], axis=0) / sum(n.sum() for _, n in every)
        shares = self.shares.get((name, group), np.zeros((RARITY_BANDS, len(whole))))
        questions = self.questions.get((name, group), np.zeros(RARITY_BANDS))
        of_group = (shares.sum(axis=0) + SHARED_QUESTIONS * whole) / (questions.sum() + SHARED_QUESTIONS)
        near = _with_next(shares) + WHOLE_GROUP * of_group
        out = near / (_with_next(questions) + WHOLE_GROUP)[:, None]
        out[:, 1:] = np.maximum(out[:, 1:], LEAST_CHANCE)
        return np.asarray(out)


def _with_next(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every band with a little of the one before and the one after."""
    out = bands.copy()
    out[1:] += NEXT_BAND * bands[:-1]
    out[:-1] += NEXT_BAND * bands[1:]
    return out


def count_levels(
    indexes: Mapping[str, EncodedIndex],
    queries: Sequence[EncodedQuery],
    truths: Sequence[Truth],
    model: MatchModel,
    progress: Callable[[], None] = lambda: None,
    *,
    rarity: RarityTally | None = None,
) -> dict[str, dict[str, FieldWeights]]:
    """Estimate m and u0 of every field and group from clients of known truth.

    m: share of true pairs per level; a small group leans on the same group of other names, if it is of one, and that on
    all questions of the field. u0: share of all persons per level, averaged over questions; of a group of names that no
    question was of, that of another name. rarity: where the null of every name is counted, besides.
    """
    schema = model.schema
    hits = {(s.name, g): np.zeros(s.levels) for s in schema.fields for g in GROUPS[s.kind]}
    null = {(s.name, g): np.zeros(s.levels) for s in schema.fields for g in GROUPS[s.kind]}
    for query, truth in zip(queries, truths, strict=True):
        for f, spec in enumerate(schema.fields):
            group = question_group(query, spec.name)
            if group is None:
                continue
            histogram, own = np.zeros(spec.levels), 0
            for code, index in indexes.items():
                levels = field_levels(index, query, model, spec.name)
                histogram += np.bincount(levels, weights=index.array(f"{spec.name}.counts"), minlength=spec.levels)
                if code == truth.province:
                    own = int(levels[index.numbers(np.array([truth.row]))[f, 0]])
                    hits[spec.name, group][own] += 1
            histogram[0] = 0
            if histogram.sum():
                null[spec.name, group] += histogram / histogram.sum()
            asked = query.fields[spec.name]
            if rarity is not None and isinstance(asked, NameQuery):
                histogram[own] -= own > 0
                rarity.add(spec.name, group, asked, histogram)
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
    """Evidence of many questions as arrays. q: questions, p: provinces, c: classes of all answers to all questions.

    bits: (c, f), unscaled. question, place: (c,), whose answer, question and question x p + province. shares, counts:
    (c,), persons of a class over their registry's, and persons. persons: (q,) in all registries. prior: (p,). home:
    (q,), p for none. shapes: (q, s), 1 where a question has what SHAPES names.
    """

    bits: NDArray[np.float64]
    question: NDArray[np.int64]
    place: NDArray[np.int64]
    shares: NDArray[np.float64]
    counts: NDArray[np.float64]
    persons: NDArray[np.float64]
    prior: NDArray[np.float64]
    home: NDArray[np.int64]
    shapes: NDArray[np.float64]

    def log_likelihood(self, point: _Point) -> tuple[float, NDArray[np.float64]]:
        """Return the mean log probability of where the clients are at home, by the posterior's own arithmetic.

        Less the ridge of the shapes; and its gradient with respect to the point's vector.
        """
        questions, provinces = len(self.home), len(self.prior)
        rows = np.arange(questions)
        each = np.exp2(self.bits @ point.scales)
        share, persons = self.shares * each, self.counts * each
        totals = np.maximum(np.bincount(self.place, share, minlength=questions * provinces), 1e-30)
        logs = np.log(totals).reshape(questions, provinces)
        likest, first = self._likest(each)
        met = np.bincount(self.question, persons, minlength=questions) - likest
        likeness = np.clip(met / self.persons, 1e-9, MAX_LIKENESS)
        crowd = point.crowd.factor(likeness)
        taken_off = self.shapes @ point.shapes
        none = np.log(point.none_factor * (1 - self.prior.sum()) * crowd)
        mass = np.log(self.prior) + point.temperature * logs - taken_off[:, None]
        masses = np.column_stack([mass, none])
        masses = np.exp(masses - masses.max(axis=1, keepdims=True))
        posterior = masses / masses.sum(axis=1, keepdims=True)
        value = np.log(np.maximum(posterior[rows, self.home], 1e-300)).sum() - SHAPE_RIDGE * (point.shapes**2).sum()
        pull = -posterior  # of every mass on the sum, in its logarithm
        pull[rows, self.home] += 1
        homes, nowhere = pull[:, :provinces], pull[:, provinces]
        by_crowd = nowhere * (crowd - 1) / crowd
        chance = np.where((likeness > 1e-9) & (likeness < MAX_LIKENESS), by_crowd / likeness / self.persons, 0.0)
        chance *= point.crowd.power
        by_bits = point.temperature * homes.ravel()[self.place] * share / totals[self.place]
        by_bits += chance[self.question] * persons
        by_bits[first] -= chance[self.question[first]] * each[first]
        gradient = np.concatenate(
            [
                LN_2 * (by_bits @ self.bits) * point.scales,
                [
                    point.temperature * (homes * logs).sum(),
                    nowhere.sum(),
                    by_crowd.sum(),
                    point.crowd.power * (by_crowd * np.log(likeness / MAX_LIKENESS)).sum(),
                ],
                -(homes.sum(axis=1) @ self.shapes) - 2 * SHAPE_RIDGE * point.shapes,
            ]
        )
        return float(value / questions), gradient / questions

    def _likest(self, each: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the most that a class of every question is worth, (q,), and which classes these are."""
        order = np.lexsort((-each, self.question))
        first = order[np.unique(self.question[order], return_index=True)[1]]
        likest = np.zeros(len(self.home))
        likest[self.question[first]] = each[first]
        return likest, first


@dataclass(frozen=True, slots=True)
class _Point:
    """What calibration looks for. shapes: natural logarithms.

    As a vector: logarithms, because nothing but shapes may be negative; of the crowd, what it does at most.
    """

    scales: NDArray[np.float64]
    temperature: float
    none_factor: float
    crowd: Crowd
    shapes: NDArray[np.float64]

    def vector(self) -> NDArray[np.float64]:
        most = self.crowd.slope * MAX_LIKENESS**self.crowd.power
        values = (*self.scales, self.temperature, self.none_factor, most, self.crowd.power)
        return np.concatenate([np.log(np.maximum(values, 1e-3)), self.shapes])

    @classmethod
    def of(cls, vector: NDArray[np.float64], fields: int) -> _Point:
        rest = fields + 4
        *scales, temperature, none_factor, most, power = np.exp(vector[:rest]).tolist()
        crowd = Crowd(most / MAX_LIKENESS**power, power)
        return cls(np.array(scales), temperature, none_factor, crowd, vector[rest:])


def calibrate(
    model: MatchModel,
    evidence: Sequence[Mapping[str, Evidence]],
    queries: Sequence[EncodedQuery],
    truths: Sequence[Truth],
) -> MatchModel:
    """Fit scales, temperature, share of "none", crowd and shapes to the truth, by maximum likelihood (L-BFGS-B).

    Shapes are held near 0 by a ridge, and then moved so that they take off nothing on average over the questions.
    """
    replay = _replay(model, evidence, queries, truths)
    names = model.schema.field_names
    start = _Point(
        np.array([model.scales[name] for name in names]),
        model.temperature,
        model.none_factor,
        Crowd(FIRST_SLOPE, 0.5),
        np.zeros(replay.shapes.shape[1]),
    ).vector()

    def loss(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = replay.log_likelihood(_Point.of(vector, len(names)))
        return -value, -gradient

    limits: list[tuple[float | None, float | None]] = [(None, None)] * len(start)
    limits[: len(names)] = [(None, math.log(MAX_SCALE))] * len(names)
    limits[len(names) + 2 : len(names) + 4] = [(None, math.log(MAX_CROWD)), (None, math.log(MAX_POWER))]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 200})
    best = _Point.of(found.x, len(names))
    usual = float((replay.shapes @ best.shapes).mean())
    bits = iter((best.shapes / LN_2).tolist())
    shapes = {spec.name: {key: next(bits) for key in SHAPES[spec.kind]} for spec in model.schema.fields}
    named = shapes[names[0]]  # every question has a name, and every name is of one group
    shapes[names[0]] = {
        key: each - (usual / LN_2 if key in GROUPS[FieldKind.NAME] else 0.0) for key, each in named.items()
    }
    return replace(
        model,
        scales=dict(zip(names, best.scales.tolist(), strict=True)),
        temperature=best.temperature,
        none_factor=best.none_factor * float(np.exp(usual)),
        crowd=best.crowd,
        shapes=shapes,
    )


def _replay(
    model: MatchModel,
    evidence: Sequence[Mapping[str, Evidence]],
    queries: Sequence[EncodedQuery],
    truths: Sequence[Truth],
) -> _Replay:
    schema = model.schema
    unscaled = replace(model, scales=dict.fromkeys(schema.field_names, 1.0))
    codes = tuple(evidence[0])
    fields = np.arange(len(schema.fields))
    columns = {(s.name, key): i for i, (s, key) in enumerate((s, key) for s in schema.fields for key in SHAPES[s.kind])}
    shapes, persons = np.zeros((len(queries), len(columns))), np.zeros(len(queries))
    bits, counts, shares, places = [], [], [], []
    for q, (answers, query) in enumerate(zip(evidence, queries, strict=True)):
        table = unscaled.bits(
            query, [np.sum([answers[c].histograms[f] for c in codes], axis=0) for f in fields], discounted=True
        )
        shapes[q, [columns[name, key] for name in query.fields for key in question_shape(query, name)]] = 1
        for p, code in enumerate(codes):
            answer = answers[code]
            held = answer.class_counts > 0
            bits.append(table[fields, answer.class_levels[held]])
            counts.append(answer.class_counts[held])
            shares.append(answer.class_counts[held] / answer.size)
            places.append(np.full(int(held.sum()), q * len(codes) + p))
            persons[q] += answer.size
    home = np.array([codes.index(t.province) if t.province is not None else len(codes) for t in truths])
    prior = np.array([model.coverage * model.priors[code] for code in codes])
    place = np.concatenate(places)
    return _Replay(
        np.concatenate(bits).astype(np.float64),
        place // len(codes),
        place,
        np.concatenate(shares),
        np.concatenate(counts).astype(np.float64),
        persons,
        prior,
        home,
        shapes,
    )


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
        shapes={spec.name: dict.fromkeys(SHAPES[spec.kind], 0.0) for spec in schema.fields},
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
