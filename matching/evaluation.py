"""How good answers are: precision, recall and calibration of the province named, against known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_BINS: Final = 10
PRECISION_WANTED: Final = 0.99


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


def province_metrics(probability: NDArray[np.float64], right: NDArray[np.bool_], registered: int) -> ProvinceMetrics:
    """Measure the likeliest provinces of many clients.

    probability, right: (clients,), of the likeliest province: what was claimed, and whether it is the client's home.
    registered: how many clients have a home to be found.
    """
    order = np.argsort(-probability, kind="stable")
    ordered = probability[order]
    hits = np.cumsum(right[order])
    released = np.arange(1, len(order) + 1)
    # A threshold releases all clients of equal probability together.
    last_of_ties = np.append(ordered[1:] != ordered[:-1], True)
    precision = hits / released
    recall = hits / max(registered, 1)
    f1 = np.where(last_of_ties, 2 * precision * recall / np.maximum(precision + recall, 1e-12), 0.0)
    good = last_of_ties & (precision >= PRECISION_WANTED)
    return ProvinceMetrics(
        clients=len(order),
        registered=registered,
        top1=float(right.sum() / max(registered, 1)),
        best_f1=float(f1.max(initial=0.0)),
        best_threshold=float(ordered[int(f1.argmax())]) if len(order) else 1.0,
        recall_at_precision=float(recall[good].max(initial=0.0)),
        calibration_error=calibration_error(probability, right),
    )


def calibration_error(probability: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over ten equal bins of probability."""
    if not len(probability):
        return 0.0
    bins = np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gap = 0.0
    for b in range(CALIBRATION_BINS):
        here = bins == b
        if here.any():
            gap += here.sum() * abs(float(probability[here].mean()) - float(right[here].mean()))
    return gap / len(probability)
