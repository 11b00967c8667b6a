"""Whole-record filters compared in bulk: many questions against many stored rows, the most alike of each kept."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from matching.kernels import BATCH_ROWS, batch_dice

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS_AT_ONCE: Final = 4  # filters are multiples of 256 bits
GOLDEN: Final = 0.6180339887498949  # multiples of it, without their whole part, spread evenly
FINEST: Final = 10_000  # denominator of a threshold


@dataclass(frozen=True, slots=True)
class PackedFilters:
    """Filters in blocks of rows, word after word; rows of a block have about as many set bits.

    The blocks themselves lie spread out, so that whatever is asked, rows like it are met early.

    blocks: (blocks, words, rows) uint64. bits, ids: (blocks, rows) int64, a row's set bits and which row it was.
    """

    blocks: NDArray[np.uint64]
    bits: NDArray[np.int64]
    ids: NDArray[np.int64]

    @classmethod
    def of(cls, filters: NDArray[np.uint64]) -> PackedFilters:
        """Pack filters, (rows, words) uint64; the last block is filled up with empty ones."""
        rows, words = filters.shape
        if words % WORDS_AT_ONCE:
            raise ValueError(f"filters of {words * 64} bits: only multiples of {WORDS_AT_ONCE * 64} are compared")
        blocks = -(-rows // BATCH_ROWS)
        bits = np.bitwise_count(filters).sum(axis=1, dtype=np.int64)
        order = np.argsort(bits, kind="stable")
        ids = np.full(blocks * BATCH_ROWS, -1, dtype=np.int64)
        ids[:rows] = order
        padded = np.zeros((blocks * BATCH_ROWS, words), dtype=np.uint64)
        padded[:rows] = filters[order]
        spread = np.argsort(np.arange(blocks) * GOLDEN % 1.0)
        turned = np.ascontiguousarray(padded.reshape(blocks, BATCH_ROWS, words)[spread].transpose(0, 2, 1))
        set_bits = np.append(bits[order], np.zeros(len(ids) - rows, dtype=np.int64))
        return cls(turned, set_bits.reshape(blocks, BATCH_ROWS)[spread], ids.reshape(blocks, BATCH_ROWS)[spread])


@dataclass(frozen=True, slots=True)
class Alike:
    """The rows most like each question, (questions, top), best first, equals by row; -1 and 0 where there is none."""

    rows: NDArray[np.int64]
    dice: NDArray[np.float64]


def most_alike(questions: NDArray[np.uint64], stored: PackedFilters, threshold: float, top: int) -> Alike:
    """Compare every question, (questions, words) uint64, with every stored row; keep the best `top` of each.

    threshold: least Dice, above 0; it is exact to four digits.
    """
    least = Fraction(threshold).limit_denominator(FINEST)
    if not 0 < least <= 1 or top < 1:
        raise ValueError("the threshold must be above 0 and at most 1, and top at least 1")
    if questions.shape[1] != stored.blocks.shape[1]:
        raise ValueError("questions and stored filters differ in length")
    rows = np.full((len(questions), top), -1, dtype=np.int64)
    overlaps = np.zeros((len(questions), top), dtype=np.int64)
    totals = np.ones((len(questions), top), dtype=np.int64)
    found = np.zeros(len(questions), dtype=np.int64)
    kept = (rows, overlaps, totals, found)
    batch_dice(questions, stored.blocks, stored.bits, stored.ids, least.numerator, least.denominator, *kept)
    return Alike(rows, 2.0 * overlaps / totals)
