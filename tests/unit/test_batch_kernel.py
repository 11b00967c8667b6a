from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from matching.batch import PackedFilters, most_alike

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Filters = NDArray[np.uint64]


def filters(count: int, words: int, seed: int) -> Filters:
    """Filters of very different fullness, some alike, some equal, one empty."""
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 1 << 64, (count, words), dtype=np.uint64)
    for _ in range(2):
        thinner = rng.random(count) < 0.6
        made[thinner] &= rng.integers(0, 1 << 64, (int(thinner.sum()), words), dtype=np.uint64)
    made[count // 2 :: 3] = made[0] ^ np.uint64(1 << 7)
    made[count // 3] = 0
    return made


def dice(a: list[int], b: list[int]) -> Fraction:
    total = sum(word.bit_count() for word in a + b)
    return Fraction(2 * sum((x & y).bit_count() for x, y in zip(a, b, strict=True)), total) if total else Fraction(0)


def plainly(questions: Filters, stored: Filters, threshold: Fraction, top: int) -> list[list[tuple[int, Fraction]]]:
    """The same, one pair after another, in exact arithmetic."""
    return [
        sorted(
            ((row, like) for row, kept in enumerate(stored.tolist()) if (like := dice(asked, kept)) >= threshold),
            key=lambda found: (-found[1], found[0]),
        )[:top]
        for asked in questions.tolist()
    ]


@pytest.mark.parametrize("words", [4, 8, 16])
@pytest.mark.parametrize(("threshold", "top"), [("0.0001", 3), ("0.5", 40), ("0.8", 1), ("1", 500)])
def test_the_kernel_and_a_plain_loop_find_the_same_rows(words: int, threshold: str, top: int) -> None:
    stored = filters(600, words, seed=words)  # two full blocks and a part
    questions = np.concatenate([stored[[0, 200, 299, 511]], filters(5, words, seed=99)])
    found = most_alike(questions, PackedFilters.of(stored), float(threshold), top)
    for q, expected in enumerate(plainly(questions, stored, Fraction(threshold), top)):
        count = len(expected)
        assert found.rows[q, :count].tolist() == [row for row, _ in expected]
        assert found.dice[q, :count].tolist() == [float(like) for _, like in expected]
        assert (found.rows[q, count:] == -1).all()
        assert (found.dice[q, count:] == 0).all()


def test_a_row_exactly_at_the_threshold_is_kept() -> None:
    asked = np.array([[0b1111, 0, 0, 0]], dtype=np.uint64)
    stored = PackedFilters.of(np.array([[0b111111, 0, 0, 0], [0b1111111, 0, 0, 0]], dtype=np.uint64))
    assert most_alike(asked, stored, 0.8, 5).rows.tolist() == [[0, -1, -1, -1, -1]]  # 8/10 and 8/11


def test_nothing_is_like_an_empty_filter() -> None:
    empty = np.zeros((1, 4), dtype=np.uint64)
    assert most_alike(empty, PackedFilters.of(empty), 0.0001, 2).rows.tolist() == [[-1, -1]]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="192 bits"):
        PackedFilters.of(np.zeros((1, 3), dtype=np.uint64))
    stored = PackedFilters.of(np.zeros((1, 4), dtype=np.uint64))
    with pytest.raises(ValueError, match="differ in length"):
        most_alike(np.zeros((1, 8), dtype=np.uint64), stored, 0.5, 1)
    with pytest.raises(ValueError, match="threshold"):
        most_alike(np.zeros((1, 4), dtype=np.uint64), stored, 0.0, 1)
