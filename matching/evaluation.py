"""How good answers are: precision, recall and calibration against known truth, each with how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_BINS: Final = 10
PRECISION_WANTED: Final = 0.99
RESAMPLES: Final = 1_000
BOOTSTRAP_SEED: Final = 1
NORMAL_95: Final = 1.959964  # half-width of a 95 % interval, in standard deviations
NOTHING: Final = 1e-12  # keeps a share of nobody from being a division by 0


@dataclass(frozen=True, slots=True)
class ProvinceMetrics:
    """Quality of the likeliest province over many clients.

    registered: clients whose home is in some registry. top1: share of them whose likeliest province is their home.
    best_f1, at best_threshold: releasing the likeliest province when its probability reaches the threshold.
    recall_at_precision: the most homes found while at least 99 % of those named are right. calibration_error: mean
    gap between the probability given and the share that was right, weighted by bin (expected calibration error).
    """

    clients: int
    registered: int
    top1: float
    best_f1: float
    best_threshold: float
    recall_at_precision: float
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Answers:
    """The likeliest answer to each of many questions, (clients,) each.

    probability: what was claimed, 0 where nothing was. right: it is the true one. registered: there is a true one.
    """

    probability: NDArray[np.float64]
    right: NDArray[np.bool_]
    registered: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse a right answer for somebody who has none."""
        if (self.right & ~self.registered).any():
            raise ValueError("an answer cannot be right for a client who is registered nowhere")

    def metrics(self) -> ProvinceMetrics:
        """Return the figures of these answers."""
        return province_metrics(self.probability, self.right, int(self.registered.sum()))


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and the interval in which it lies with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """What naming the likeliest answer gives at every threshold that makes a difference, highest threshold first.

    false_rate: share of all clients who are given a wrong answer.
    """

    threshold: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    false_rate: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Clients whose claimed probability falls into one tenth: mean claim, and the share that was right."""

    clients: int
    claimed: float
    right: Interval


def province_metrics(probability: NDArray[np.float64], right: NDArray[np.bool_], registered: int) -> ProvinceMetrics:
    """Measure the likeliest provinces of many clients.

    probability, right: (clients,), of the likeliest province: what was claimed, and whether it is the client's home.
    registered: how many clients have a home to be found.
    """
    ranked = _Ranked.of(probability, right)
    tally = ranked.tally(np.ones(len(probability)), registered)
    best = int(tally.f1.argmax()) if len(probability) else 0
    return ProvinceMetrics(
        clients=len(probability),
        registered=registered,
        top1=tally.top1,
        best_f1=float(tally.f1.max(initial=0.0)),
        best_threshold=float(ranked.probability[best]) if len(probability) else 1.0,
        recall_at_precision=tally.recall_at_precision,
        calibration_error=calibration_error(probability, right),
    )


def bootstrap(
    answers: Answers, threshold: float, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> dict[str, Interval]:
    """Return every figure with its 95 % interval, from clients drawn again (percentile bootstrap, Efron 1979).

    threshold: where an answer is named. Of what is named there: precision, recall (of the registered), and
    false_rate, the share of all clients who are given a wrong answer.
    """
    rng = np.random.default_rng(seed)
    clients = len(answers.probability)
    order = np.argsort(-answers.probability, kind="stable")
    ranked, registered = _Ranked.of(answers.probability, answers.right), answers.registered[order]
    point = ranked.figures(np.ones(clients), registered, threshold)
    if not clients:
        return {name: Interval(value, 0.0, 1.0) for name, value in point.items()}
    drawn = np.empty((resamples, len(point)))
    for i in range(resamples):
        weights = np.bincount(rng.integers(0, clients, clients), minlength=clients).astype(np.float64)
        drawn[i] = list(ranked.figures(weights, registered, threshold).values())
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    # Drawing again makes the bins uneven, and so adds to the calibration error: what it adds is taken off.
    at = list(point).index("calibration_error")
    added = drawn[:, at].mean() - point["calibration_error"]
    low[at], high[at] = max(0.0, low[at] - added), max(0.0, high[at] - added)
    found = {name: Interval(value, float(low[i]), float(high[i])) for i, (name, value) in enumerate(point.items())}
    # Whoever never erred among these clients never errs among them drawn again: there the bootstrap knows nothing.
    named = int((answers.probability >= threshold).sum())
    base = {"top1": int(registered.sum()), "precision": named, "recall": int(registered.sum()), "false_rate": clients}
    for name, of in base.items():
        if found[name].low == found[name].high:
            found[name] = share(round(found[name].value * of), of)
    return found


def share(hits: int, of: int) -> Interval:
    """Return a share with its 95 % interval. Source: Wilson 1927, JASA 22(158)."""
    if not of:
        return Interval(0.0, 0.0, 1.0)
    p, z2 = hits / of, NORMAL_95**2
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = NORMAL_95 * float(np.sqrt(p * (1 - p) / of + z2 / (4 * of * of))) / (1 + z2 / of)
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


def curve(answers: Answers) -> Curve:
    """Return precision, recall and false answers at every threshold."""
    ranked = _Ranked.of(answers.probability, answers.right)
    tally = ranked.tally(np.ones(len(answers.probability)), int(answers.registered.sum()))
    at = ranked.usable
    false_rate = np.cumsum(~ranked.right)[at] / max(len(answers.probability), 1)
    return Curve(ranked.probability[at], tally.precision[at], tally.recall[at], false_rate)


def reliability(answers: Answers) -> tuple[CalibrationBin, ...]:
    """Return the tenths of probability that hold any client, lowest first."""
    bins = _bins(answers.probability)
    found = []
    for b in range(CALIBRATION_BINS):
        here = bins == b
        if here.any():
            right = share(int(answers.right[here].sum()), int(here.sum()))
            found.append(CalibrationBin(int(here.sum()), float(answers.probability[here].mean()), right))
    return tuple(found)


def calibration_error(
    probability: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> float:
    """Return the expected calibration error over ten equal bins; weights: how often each client counts."""
    counted = np.ones(len(probability)) if weights is None else weights
    bins = _bins(probability)
    gaps = np.bincount(bins, weights=counted * (probability - right), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / max(float(counted.sum()), NOTHING))


def _bins(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


@dataclass(frozen=True, slots=True)
class _Tally:
    """By rank, when everything down to it is named: precision, recall, F1 (0 where the next one claims as much)."""

    top1: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    recall_at_precision: float


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Answers by falling probability. usable: a threshold can end here, for the next one claims less."""

    probability: NDArray[np.float64]
    right: NDArray[np.bool_]
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, probability: NDArray[np.float64], right: NDArray[np.bool_]) -> _Ranked:
        """Rank the answers."""
        order = np.argsort(-probability, kind="stable")
        ranked = probability[order]
        # A threshold releases all clients of equal probability together, and nobody of whom nothing is claimed.
        usable = np.append(ranked[1:] != ranked[:-1], True)[: len(order)] & (ranked > 0)
        return cls(ranked, right[order], usable)

    def tally(self, weights: NDArray[np.float64], registered: float) -> _Tally:
        """Add up what is found from the top; weights: how often each client counts."""
        hits, named = np.cumsum(weights * self.right), np.cumsum(weights)
        precision, recall = hits / np.maximum(named, NOTHING), hits / max(registered, NOTHING)
        f1 = np.where(self.usable, 2 * hits / np.maximum(named + registered, NOTHING), 0.0)
        good = self.usable & (precision >= PRECISION_WANTED)
        top1 = float(recall[-1]) if len(recall) else 0.0
        return _Tally(top1, precision, recall, f1, float(recall[good].max(initial=0.0)))

    def figures(
        self, weights: NDArray[np.float64], registered: NDArray[np.bool_], threshold: float
    ) -> dict[str, float]:
        """Return all figures, with those of naming at `threshold`."""
        homes = float((weights * registered).sum())
        tally = self.tally(weights, homes)
        named = weights * (self.probability >= threshold)
        count, right = float(named.sum()), float((named * self.right).sum())
        return {
            "top1": tally.top1,
            "best_f1": float(tally.f1.max(initial=0.0)),
            "recall_at_precision": tally.recall_at_precision,
            "calibration_error": calibration_error(self.probability, self.right, weights),
            "precision": right / count if count else 1.0,
            "recall": right / max(homes, NOTHING),
            "false_rate": (count - right) / max(float(weights.sum()), NOTHING),
        }
