"""EM finds the two classes that made the pairs, and says so when nothing could."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matching.em import estimate, null_of, row_levels, train_unlabelled
from matching.encoding import QueryEncoder
from matching.errors import EstimationError
from matching.question import Client
from matching.training import untrained_model
from tests.people import KEYS, TODAY, build, crowd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Shares = tuple[float, ...]

LEVELS = (4, 3, 4, 3)  # level 0 included


def expected_pairs(
    m: Sequence[Shares], u: Sequence[Shares], prevalence: float, missing: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Every pattern with the number of pairs a million would show of it: no luck of a draw in it."""
    patterns, counts = [], []
    for pattern in itertools.product(*(range(0 if missing else 1, len(share) + 1) for share in m)):
        matched, other = prevalence, 1 - prevalence
        for level, of_m, of_u in zip(pattern, m, u, strict=True):
            matched *= (1 - missing) * of_m[level - 1] if level else missing
            other *= (1 - missing) * of_u[level - 1] if level else missing
        patterns.append(pattern)
        counts.append(1e6 * (matched + other))
    return np.array(patterns, dtype=np.uint8), np.array(counts)


def shares(levels: int, *, agreeing: bool) -> st.SearchStrategy[Shares]:
    """Shares of `levels` levels, most of it at the top or most of it at the bottom."""
    parts = st.lists(st.floats(0.05, 0.3), min_size=levels - 1, max_size=levels - 1)

    def ordered(rest: list[float]) -> Shares:
        main = 1 + sum(rest)
        scaled = tuple(part / (main + sum(rest)) for part in rest)
        top = (1 - sum(scaled),)
        return (*scaled, *top) if agreeing else (*top, *scaled)

    return parts.map(ordered)


@settings(max_examples=40, deadline=None)
@given(
    m=st.tuples(*(shares(size - 1, agreeing=True) for size in LEVELS)),
    u=st.tuples(*(shares(size - 1, agreeing=False) for size in LEVELS)),
    prevalence=st.floats(0.02, 0.5),
    missing=st.sampled_from([0.0, 0.2]),
)
def test_planted_parameters_come_back(
    m: tuple[Shares, ...], u: tuple[Shares, ...], prevalence: float, missing: float
) -> None:
    found = estimate(*expected_pairs(m, u, prevalence, missing), LEVELS, tolerance=1e-13, max_rounds=20_000)
    assert found.prevalence == pytest.approx(prevalence, abs=0.01)
    for planted, got in [*zip(m, found.m, strict=True), *zip(u, found.u, strict=True)]:
        assert got[0] == 0
        assert got[1:] == pytest.approx(planted, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*(st.integers(0, size - 1) for size in LEVELS)), min_size=8, max_size=60, unique=True),
    st.randoms(use_true_random=False),
)
def test_no_round_makes_the_pairs_less_likely(patterns: list[tuple[int, ...]], random: object) -> None:
    varied = np.array([*patterns, (1, 1, 1, 1), (2, 2, 2, 2)], dtype=np.uint8)
    counts = np.arange(1, len(varied) + 1)
    trace = np.array(estimate(varied, counts, LEVELS, max_rounds=200).trace)
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()


def test_a_missing_value_speaks_for_neither_class() -> None:
    m, u = ((0.1, 0.9),) * 3, ((0.9, 0.1),) * 3
    found = estimate(*expected_pairs(m, u, 0.2, missing=0.3), (3, 3, 3))
    all_missing = found.match_probability(np.zeros((1, 3), dtype=np.uint8))
    assert all_missing == pytest.approx(found.prevalence)


@pytest.mark.parametrize(
    ("patterns", "counts", "complaint"),
    [
        (np.zeros((0, 3)), np.zeros(0), "no pairs"),
        (np.ones((2, 2)), np.ones(2), "do not fit together"),
        (np.ones((2, 3)), np.ones(3), "do not fit together"),
        (np.full((2, 3), 9), np.ones(2), "a level that its field does not have"),
        (np.array([[1, 1, 1], [2, 2, 2]]), np.array([1.0, 0.0]), "more than 0"),
        (np.array([[1, 1, 1], [2, 2, 2]]), np.array([1.0, np.nan]), "finite"),
        (np.zeros((1, 3)), np.ones(1), "fewer than 3 fields vary"),
        (np.array([[1, 1, 1], [2, 2, 1]]), np.ones(2), "fewer than 3 fields vary"),
    ],
)
def test_pairs_that_say_nothing_are_refused(
    patterns: NDArray[np.float64], counts: NDArray[np.float64], complaint: str
) -> None:
    with pytest.raises(EstimationError, match=complaint):
        estimate(patterns.astype(np.uint8), counts, (3, 3, 3))


def test_a_model_trained_without_truth_knows_the_persons_it_was_asked_about(tmp_path: Path) -> None:
    people = crowd(600)
    index, _ = build(tmp_path / "g", people)
    encoder = QueryEncoder(KEYS)
    asked = people[::6]
    queries = [encoder.encode(Client(p[1] or "", p[2], p[3], p[4], p[5]), TODAY) for p in asked]
    model, result = train_unlabelled(index, queries, untrained_model(KEYS.schema, {"33": 1.0}, {}), seed=1)
    assert model.coverage == pytest.approx(1, abs=0.05)
    assert result.prevalence == pytest.approx(1 / 600, rel=0.1)
    right = 0
    for person, query in zip(asked, queries, strict=True):
        levels = row_levels(index, query, model)
        bits = model.bits(query, null_of(levels, model.schema.levels))
        best = bits[np.arange(levels.shape[1]), levels].sum(axis=1).argmax()
        right += index.record_id(int(best)) == person[0]
    assert right >= 0.97 * len(asked)
