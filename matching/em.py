"""Fellegi-Sunter weights from pairs of unknown truth: expectation-maximisation over agreement patterns.

For data of which nobody has labelled pairs. Sources: Fellegi & Sunter 1969, JASA 64(328); Dempster, Laird & Rubin 1977,
JRSS B 39(1); Winkler 1988, "Using the EM algorithm for weight computation in the Fellegi-Sunter model".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from matching.errors import EstimationError
from matching.search import field_levels
from matching.training import SHARED_PAIRS, SMOOTHING
from matching.weights import GROUPS, FieldWeights, MatchModel, question_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from matching.index import EncodedIndex
    from matching.question import EncodedQuery

    Floats: TypeAlias = NDArray[np.float64]

TOLERANCE: Final = 1e-9  # relative gain in log-likelihood below which nothing moves any more
MAX_ROUNDS: Final = 2_000
FIELDS_NEEDED: Final = 3  # with fewer fields that vary, many mixtures explain the same counts equally well

# Pairs looked at per question. Every likely pair must be there; the unlikely ones are drawn, and weighed for the rest.
TOP_PAIRS: Final = 20
RANDOM_PAIRS: Final = 40
PASSES: Final = 2  # the second picks its likely pairs by the weights of the first
MAX_COVERAGE: Final = 0.999  # some doubt is always left that a question means anybody here
MIN_LOG: Final = -1e9  # stands for the logarithm of 0 where two of them are subtracted
TINY: Final = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class EmResult:
    """What explains the pairs best.

    m, u: per field, (levels,) shares per level among matches and among other pairs, level 0 (missing) left out.
    prevalence: share of all pairs that are matches. trace: log-likelihood after each round; it never falls.
    """

    m: tuple[Floats, ...]
    u: tuple[Floats, ...]
    prevalence: float
    trace: tuple[float, ...]

    @property
    def rounds(self) -> int:
        """Rounds until nothing moved, or until the patience given was at its end."""
        return len(self.trace)

    @property
    def log_likelihood(self) -> float:
        """Natural logarithm of the likelihood of all pairs."""
        return self.trace[-1]

    def match_probability(self, patterns: NDArray[np.uint8]) -> Floats:
        """Return the probability that each pattern, (n, fields), comes from a match."""
        return _posterior(*_log_joint(patterns, self.m, self.u, self.prevalence))


def estimate(
    patterns: NDArray[np.uint8],
    counts: NDArray[Any],
    levels: Sequence[int],
    *,
    start_m: Sequence[Floats] | None = None,
    start_u: Sequence[Floats] | None = None,
    start_prevalence: float = 0.1,
    tolerance: float = TOLERANCE,
    max_rounds: int = MAX_ROUNDS,
) -> EmResult:
    """Estimate m, u and the share of matches from level patterns, fields being independent in either class.

    patterns: (n, fields) distinct level vectors, a higher level being a closer agreement, 0 missing on a side.
    counts: (n,) pairs of each pattern; fractions are allowed, so that a sample can be weighed. levels: per field.
    A missing value says nothing: it enters neither class. Without starts, u begins as observed, and m doubles from
    level to level, which makes the matches the class that agrees.
    Raises EstimationError when the pairs cannot tell two classes apart.
    """
    weights = _checked(patterns, counts, levels)
    hits = [(patterns[:, f, None] == np.arange(size)) & (np.arange(size) > 0) for f, size in enumerate(levels)]
    observed = [_shares(hit, weights) for hit in hits]
    if sum(int((share > 0).sum() > 1) for share in observed) < FIELDS_NEEDED:
        raise EstimationError(
            f"fewer than {FIELDS_NEEDED} fields vary over the pairs: two classes cannot be told apart"
        )
    u = observed if start_u is None else list(start_u)
    m = [_doubling(share) for share in observed] if start_m is None else list(start_m)
    prevalence = start_prevalence
    trace: list[float] = []
    matched, other = _log_joint(patterns, m, u, prevalence)
    for _ in range(max_rounds):
        share = _posterior(matched, other)
        prevalence = float((weights * share).sum() / weights.sum())
        if not 0 < prevalence < 1:
            raise EstimationError("all pairs fell into one class: there are no matches among them, or nothing else")
        m = [_shares(hit, weights * share) for hit in hits]
        u = [_shares(hit, weights * (1 - share)) for hit in hits]
        matched, other = _log_joint(patterns, m, u, prevalence)
        trace.append(float((weights * np.logaddexp(matched, other)).sum()))
        if len(trace) > 1 and trace[-1] - trace[-2] <= tolerance * abs(trace[-1]):
            break
    return EmResult(tuple(m), tuple(u), prevalence, tuple(trace))


def _checked(patterns: NDArray[np.uint8], counts: NDArray[Any], levels: Sequence[int]) -> Floats:
    """Return the counts as floats. Raises EstimationError when patterns, counts and levels do not fit together."""
    weights = np.asarray(counts, dtype=np.float64)
    if patterns.ndim != 2 or patterns.shape != (len(weights), len(levels)):
        raise EstimationError(
            f"patterns of shape {patterns.shape}, {len(weights)} counts and {len(levels)} fields do not fit together"
        )
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise EstimationError("counts must be finite and more than 0: a pattern that no pair has says nothing")
    if not len(weights):
        raise EstimationError("there are no pairs to estimate from")
    if (patterns >= np.asarray(levels)).any():
        raise EstimationError("a pattern has a level that its field does not have")
    return weights


def _shares(hit: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the share of the weights per level; all 0 where every value is missing."""
    found = weights @ hit
    return np.asarray(found / max(float(found.sum()), TINY))


def _doubling(observed: Floats) -> Floats:
    """Return shares that double from each observed level to the next."""
    rank = np.cumsum(observed > 0)
    found = np.where(observed > 0, np.exp2(rank - rank.max(initial=0)), 0.0)
    return np.asarray(found / max(float(found.sum()), TINY))


def _posterior(matched: Floats, other: Floats) -> Floats:
    """Return the share of `matched`; 0 for a pattern that neither class can show."""
    either = np.logaddexp(matched, other)
    return np.asarray(np.where(np.isfinite(either), np.exp(matched - np.maximum(either, MIN_LOG)), 0.0))


def _log_joint(
    patterns: NDArray[np.uint8], m: Sequence[Floats], u: Sequence[Floats], prevalence: float
) -> tuple[Floats, Floats]:
    """Return the log-probability of each pattern together with being a match, and with not being one."""
    return _log_class(patterns, m, np.log(prevalence)), _log_class(patterns, u, np.log1p(-prevalence))


def _log_class(patterns: NDArray[np.uint8], shares: Sequence[Floats], prior: float) -> Floats:
    joint = np.full(len(patterns), prior)
    for f, share in enumerate(shares):
        with np.errstate(divide="ignore"):  # log 0: a level that this class never shows
            logs = np.log(share)
        logs[0] = 0.0
        joint += logs[patterns[:, f]]
    return joint


# --- weights for a schema -------------------------------------------------------------------------------------------


def row_levels(index: EncodedIndex, query: EncodedQuery, model: MatchModel) -> NDArray[np.uint8]:
    """Return the agreement levels of every registered person with a question, (persons, fields).

    For training and for explaining, on the own side: what leaves a province is never a row.
    """
    rows, names = index.numbers(), model.schema.field_names
    return np.stack([field_levels(index, query, model, name)[rows[f]] for f, name in enumerate(names)], axis=1)


def null_of(levels: NDArray[np.uint8], sizes: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return how many persons reach each level of each field: the question's own null."""
    return [np.bincount(levels[:, f], minlength=size) for f, size in enumerate(sizes)]


def train_unlabelled(
    index: EncodedIndex,
    queries: Sequence[EncodedQuery],
    model: MatchModel,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> tuple[MatchModel, EmResult]:
    """Give a model weights from questions of which nobody knows whom they mean.

    Every question is paired with the persons it may mean, and with some drawn ones that stand for all others. m is what
    EM finds among those pairs, apart per group of questions; u0 is counted. The model's coverage becomes the share of
    questions for which EM finds a match. progress is called PASSES times per question. Raises EstimationError.
    """
    rng = np.random.default_rng(seed)
    wanted = model.pseudo_count
    model = replace(model, pseudo_count=0.0)  # before the first pass there is no average null to mix in
    for _ in range(PASSES):
        pairs = _sample(index, queries, model, rng, progress)
        patterns, inverse = np.unique(pairs.levels, axis=0, return_inverse=True)
        counts = np.bincount(inverse.ravel(), weights=pairs.weights)
        start = min(0.5, len(queries) / float(counts.sum()))
        result = estimate(patterns, counts, model.schema.levels, start_prevalence=start)
        model = replace(_taught(model, queries, pairs, result), pseudo_count=wanted)
    return model, result


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Sampled pairs: levels (n, fields), the question's number (n,), how many pairs each stands for (n,)."""

    levels: NDArray[np.uint8]
    question: NDArray[np.int64]
    weights: Floats


def _sample(
    index: EncodedIndex,
    queries: Sequence[EncodedQuery],
    model: MatchModel,
    rng: np.random.Generator,
    progress: Callable[[], None],
) -> _Pairs:
    found: list[NDArray[np.uint8]] = []
    weights: list[float] = []
    question: list[int] = []
    for number, query in enumerate(queries):
        levels = row_levels(index, query, model)
        bits = model.bits(query, null_of(levels, model.schema.levels))
        weight = bits[np.arange(levels.shape[1]), levels].sum(axis=1)
        order = np.argsort(-weight, kind="stable")
        likely, rest = order[:TOP_PAIRS], order[TOP_PAIRS:]
        drawn = rng.choice(rest, size=min(RANDOM_PAIRS, len(rest)), replace=False)
        found.append(levels[np.concatenate([likely, drawn])])
        weights += [1.0] * len(likely) + [len(rest) / max(len(drawn), 1)] * len(drawn)
        question += [number] * (len(likely) + len(drawn))
        progress()
    if not found:
        raise EstimationError("there are no questions to estimate from")
    return _Pairs(np.concatenate(found), np.array(question), np.array(weights))


def _taught(model: MatchModel, queries: Sequence[EncodedQuery], pairs: _Pairs, result: EmResult) -> MatchModel:
    """Return the model with what EM found, per group of questions; a small group leans on all questions together.

    Nothing is known of a null by rarity or of shapes: no home was.
    """
    matched = result.match_probability(pairs.levels) * pairs.weights
    other = pairs.weights - matched
    fields: dict[str, dict[str, FieldWeights]] = {}
    for f, spec in enumerate(model.schema.fields):
        groups = np.array([question_group(query, spec.name) or "" for query in queries])[pairs.question]
        level = pairs.levels[:, f]
        shared_m, shared_u = (_smoothed(level, weights, spec.levels) for weights in (matched, other))
        fields[spec.name] = {}
        for group in GROUPS[spec.kind]:
            here = groups == group
            fields[spec.name][group] = FieldWeights(
                _leaning(level, matched * here, shared_m), _leaning(level, other * here, shared_u)
            )
    coverage = min(float(matched.sum()) / len(queries), MAX_COVERAGE)
    recipe = {"method": "EM on unlabelled pairs", "questions": len(queries), "rounds": result.rounds}
    shapes = {name: dict.fromkeys(bits, 0.0) for name, bits in model.shapes.items()}
    return replace(model, fields=fields, shapes=shapes, coverage=coverage, recipe=recipe)


def _smoothed(level: NDArray[np.uint8], weights: Floats, levels: int) -> Floats:
    counts = np.bincount(level, weights=weights, minlength=levels) + SMOOTHING
    counts[0] = 0.0
    return np.asarray(counts / counts.sum())


def _leaning(level: NDArray[np.uint8], weights: Floats, shared: Floats) -> Floats:
    counts = np.bincount(level, weights=weights, minlength=len(shared)) + SHARED_PAIRS * shared
    counts[0] = 0.0
    return np.asarray(counts / counts.sum())
