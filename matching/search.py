"""Searching one registry for one question: levels of distinct values, their histograms, the best evidence classes.

A full scan: every distinct value of every field is scored, every person is visited once. No blocking, no recall lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from matching.fields import YearClass
from matching.kernels import (
    CLASS_SLOTS,
    FILTER_WORDS,
    LEVEL_BITS,
    ROWS_PER_CLASS,
    collect_classes,
    level_histogram,
    name_levels,
    token_similarity,
)
from matching.question import (
    CLASSES_PER_ANSWER,
    HANDLES_PER_ANSWER,
    CodeQuery,
    DateQuery,
    Evidence,
    NameQuery,
    PlaceQuery,
    SearchResult,
    TokenQuery,
)
from matching.schema import LinkageSchema, require_same
from matching.weights import round_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from matching.index import EncodedIndex
    from matching.question import EncodedQuery
    from matching.weights import MatchModel

CROWD_BITS: Final = 14  # persons this many bits under the size of the registry matter only in crowds, which add up to 1

# Agreement levels of a place; 0 is missing.
PLACE_DIFFERENT: Final = 1
PLACE_SAME_PROVINCE: Final = 2
PLACE_PROVINCE_ONLY: Final = 3  # one side names a province, the other lies in it
PLACE_ALIKE: Final = 4
PLACE_CLOSE: Final = 5
PLACE_RELATED: Final = 6  # old parent, split-off or the other of Kabupaten and Kota
PLACE_SAME_REGENCY: Final = 7
PLACE_SAME: Final = 8

# Agreement levels of a date; 0 is missing. How far the years lie apart, and what day and month add to that: the same,
# others, or (the levels without a suffix) nothing, since a side does not know them.
DATE_FAR: Final = 1
DATE_FAR_OTHER_DAY: Final = 2
DATE_FAR_SAME_DAY: Final = 3
DATE_CONFUSED: Final = 4
DATE_CONFUSED_OTHER_DAY: Final = 5
DATE_CONFUSED_SAME_DAY: Final = 6
DATE_8_10: Final = 7
DATE_8_10_OTHER_DAY: Final = 8
DATE_5_7: Final = 9
DATE_5_7_OTHER_DAY: Final = 10
DATE_3_4: Final = 11
DATE_3_4_OTHER_DAY: Final = 12
DATE_2: Final = 13
DATE_2_OTHER_DAY: Final = 14
DATE_1: Final = 15
DATE_1_OTHER_DAY: Final = 16
DATE_NEAR_SAME_DAY: Final = 17
DATE_YEAR_OTHER_DAY: Final = 18
DATE_YEAR: Final = 19
DATE_YEAR_PART: Final = 20  # same year and one of day and month
DATE_YEAR_SWAPPED: Final = 21
DATE_SAME: Final = 22

CODE_DIFFERENT: Final = 1
CODE_SAME: Final = 2


def _no_check() -> None:
    """Nobody is waiting with a clock."""


def search(
    index: EncodedIndex, query: EncodedQuery, model: MatchModel, *, check: Callable[[], None] = _no_check
) -> SearchResult:
    """Search one registry; return its evidence and, own side only, the rows behind the handles.

    check is called between stages, and may raise to stop the search (a deadline, a hang-up).
    Raises SchemaMismatchError before any arithmetic when index and question were encoded unlike.
    """
    schema = model.schema
    require_same((bytes.fromhex(index.manifest.fingerprint), index.manifest.epoch), (query.fingerprint, query.epoch))
    levels = []
    for name in schema.field_names:
        check()
        levels.append(field_levels(index, query, model, name))
    histograms = tuple(np.zeros(spec.levels, dtype=np.int64) for spec in schema.fields)
    for spec, level, histogram in zip(schema.fields, levels, histograms, strict=True):
        level_histogram(level, index.array(f"{spec.name}.counts"), index.size, histogram)
    bits = model.bits(query, histograms)
    codes, counts, rows = _collect(index, levels, bits, pruning_order(bits, histograms), check)
    class_levels = _decode(codes, schema)
    weights = bits[np.arange(len(schema.fields)), class_levels].sum(axis=1)
    # By the share of the posterior a class can hold: crowds count as much as a single strong candidate.
    mass = weights + np.log2(np.maximum(counts, 1))
    best = np.argsort(-mass, kind="stable")[:CLASSES_PER_ANSWER]
    best = best[np.argsort(-weights[best], kind="stable")]
    candidates: list[tuple[int, int]] = []
    for place, chosen in enumerate(best):
        for row in rows[chosen, : min(int(counts[chosen]), ROWS_PER_CLASS)]:
            if len(candidates) < HANDLES_PER_ANSWER:
                candidates.append((place, int(row)))
    evidence = Evidence(
        size=index.size,
        histograms=tuple(round_counts(histogram) for histogram in histograms),
        class_levels=class_levels[best].astype(np.uint8),
        class_counts=round_counts(counts[best]),
    )
    return SearchResult(evidence, tuple(candidates), bits)


def pruning_order(
    bits: NDArray[np.float32], histograms: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the order in which fields tell soonest that somebody is not sought, (fields,).

    And, (fields,) too, the most bits that the fields after each in that order can add.
    First comes the field whose best registered level lies furthest above what the registered have on average.
    histograms: persons of every level, field by field; of nobody, any order serves.
    """
    if not all(histogram.any() for histogram in histograms):
        return np.arange(len(bits), dtype=np.int64), np.zeros(len(bits), dtype=np.float32)
    best = np.array([table[: len(h)][h > 0].max() for table, h in zip(bits, histograms, strict=True)])
    usual = [float((table[: len(h)] * h).sum()) / h.sum() for table, h in zip(bits, histograms, strict=True)]
    order = np.argsort(usual - best, kind="stable")
    rest = np.append(np.cumsum(best[order][::-1])[::-1][1:], 0)
    return order.astype(np.int64), rest.astype(np.float32)


def field_levels(index: EncodedIndex, query: EncodedQuery, model: MatchModel, name: str) -> NDArray[np.uint8]:
    """Return the agreement level of every distinct value of a field, (values,) uint8; 0 for the missing value."""
    values = len(index.array(f"{name}.counts"))
    match query.fields.get(name):
        case None:
            return np.zeros(values, dtype=np.uint8)
        case NameQuery() as asked:
            return _name_levels(index, asked, model, name, values)
        case PlaceQuery() as asked:
            return _place_levels(index, asked, name)
        case DateQuery() as asked:
            return _date_levels(index, asked, name)
        case CodeQuery(token):
            tokens = index.array(f"{name}.values")[:, 0]
            out = np.where(tokens == np.uint64(token), CODE_SAME, CODE_DIFFERENT).astype(np.uint8)
            out[tokens == 0] = 0
            return out


def _name_levels(index: EncodedIndex, asked: NameQuery, model: MatchModel, name: str, values: int) -> NDArray[np.uint8]:
    filters = index.array(f"{name}.filters")
    out = np.zeros(values, dtype=np.uint8)
    if not len(filters):
        return out
    bits = index.array(f"{name}.bits")
    similarity = np.zeros((len(asked.tokens), len(filters)), dtype=np.uint8)
    for k, token in enumerate(asked.tokens):
        near = _near(index, token, name, len(filters))
        for variant in token.variants:
            words = tuple(np.uint64(word) for word in variant)
            token_similarity(
                filters, bits, words, token.initial, near, model.token_table, model.initial_similarity, similarity[k]
            )
    name_levels(
        index.array(f"{name}.offsets"),
        index.array(f"{name}.tokens"),
        similarity,
        similarity.max(axis=0),
        index.array(f"{name}.weights"),
        np.array([token.weight for token in asked.tokens], dtype=np.uint8),
        model.name_cells,
        out,
    )
    return out


def _near(index: EncodedIndex, asked: TokenQuery, name: str, tokens: int) -> NDArray[np.uint8]:
    """Return which registered tokens are one slip away (1) or are called as the question says (2): (tokens,) uint8."""
    out = np.zeros(tokens, dtype=np.uint8)
    called = np.array([asked.call] if asked.call else [], dtype=np.uint64)
    postings = ((2, called, "calls", "call_tokens"), (1, asked.near, "near", "near_tokens"))
    for mark, keyed, forms_of, owners_of in postings:
        forms, owners = index.array(f"{name}.{forms_of}"), index.array(f"{name}.{owners_of}")
        starts, stops = np.searchsorted(forms, keyed, "left"), np.searchsorted(forms, keyed, "right")
        for start, stop in zip(starts, stops, strict=True):
            out[index.token_places(name, owners[start:stop])] = mark
    return out


def _place_levels(index: EncodedIndex, asked: PlaceQuery, name: str) -> NDArray[np.uint8]:
    tokens = index.array(f"{name}.values")
    regencies, related, provinces = tokens[:, :4], tokens[:, 4:12], tokens[:, 12:]
    filters, bits = index.array(f"{name}.filters"), index.array(f"{name}.bits").sum(axis=1, dtype=np.int64)
    own = int(np.bitwise_count(asked.text).sum())
    both = np.bitwise_count(filters & asked.text).sum(axis=1, dtype=np.int64)
    dice = 2.0 * both / np.maximum(bits + own, 1)
    same_regency = _shares(regencies, asked.regencies)
    is_related = _shares(regencies, asked.related) | _shares(related, asked.regencies)
    same_province = _shares(provinces, asked.provinces)
    vague = (regencies[:, 0] == 0) | (len(asked.regencies) == 0)
    unresolved = ((provinces[:, 0] == 0) & (regencies[:, 0] == 0)) | (len(asked.provinces) == 0)
    out = np.select(
        [
            same_regency & (dice > 0.99),
            same_regency,
            is_related,
            dice > 0.99,
            dice >= 0.75,
            unresolved & (dice >= 0.5),
            vague & same_province,
            same_province,
        ],
        [
            PLACE_SAME,
            PLACE_SAME_REGENCY,
            PLACE_RELATED,
            PLACE_SAME,
            PLACE_CLOSE,
            PLACE_ALIKE,
            PLACE_PROVINCE_ONLY,
            PLACE_SAME_PROVINCE,
        ],
        PLACE_DIFFERENT,
    ).astype(np.uint8)
    out[bits == 0] = 0
    return out


def _shares(stored: NDArray[np.uint64], asked: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which rows of `stored` (0 = none) hold any of the asked tokens."""
    found = np.isin(stored, asked[asked != 0]).any(axis=1)
    return np.asarray(found, dtype=np.bool_)


# By year class: the level when day and month are not known on a side, are others, are the same.
_YEAR_LEVELS: Final = {
    YearClass.OFF_1: (DATE_1, DATE_1_OTHER_DAY, DATE_NEAR_SAME_DAY),
    YearClass.OFF_2: (DATE_2, DATE_2_OTHER_DAY, DATE_NEAR_SAME_DAY),
    YearClass.OFF_3_4: (DATE_3_4, DATE_3_4_OTHER_DAY, DATE_NEAR_SAME_DAY),
    YearClass.OFF_5_7: (DATE_5_7, DATE_5_7_OTHER_DAY, DATE_NEAR_SAME_DAY),
    YearClass.OFF_8_10: (DATE_8_10, DATE_8_10_OTHER_DAY, DATE_NEAR_SAME_DAY),
    YearClass.CONFUSED: (DATE_CONFUSED, DATE_CONFUSED_OTHER_DAY, DATE_CONFUSED_SAME_DAY),
}


def _date_levels(index: EncodedIndex, asked: DateQuery, name: str) -> NDArray[np.uint8]:
    tokens = index.array(f"{name}.values")
    years, months, days = tokens[:, 0], tokens[:, 1], tokens[:, 2]
    same_month = (months == np.uint64(asked.month)) & (months != 0)
    same_day = (days == np.uint64(asked.day)) & (days != 0)
    both = same_month & same_day
    swapped = (months == np.uint64(asked.swapped_month)) & (days == np.uint64(asked.swapped_day)) & (months != 0)
    swapped &= days != 0
    unknown = ((months == 0) & (days == 0)) | ((asked.month == 0) and (asked.day == 0))
    within = np.select(
        [unknown, both, swapped, same_month | same_day],
        [DATE_YEAR, DATE_SAME, DATE_YEAR_SWAPPED, DATE_YEAR_PART],
        DATE_YEAR_OTHER_DAY,
    )
    out = np.select([unknown, both], [DATE_FAR, DATE_FAR_SAME_DAY], DATE_FAR_OTHER_DAY)
    for kind, (alone, other, same) in _YEAR_LEVELS.items():
        near = np.isin(years, asked.years[asked.year_classes == kind])
        out = np.where(near, np.select([unknown, both], [alone, same], other), out)
    out = np.where(np.isin(years, asked.years[asked.year_classes == YearClass.EXACT]), within, out).astype(np.uint8)
    out[years == 0] = 0
    return np.asarray(out, dtype=np.uint8)


def _collect(
    index: EncodedIndex,
    levels: list[NDArray[np.uint8]],
    bits: NDArray[np.float32],
    pruning: tuple[NDArray[np.int64], NDArray[np.float32]],
    check: Callable[[], None],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint32]]:
    """Count the classes whose weight can matter; returns their codes, counts and some rows of each."""
    bases = np.zeros(len(levels), dtype=np.int64)
    np.cumsum([len(level) for level in levels[:-1]], out=bases[1:])
    floor = np.log2(index.size) - CROWD_BITS
    flat = np.concatenate(levels)
    while True:
        codes = np.zeros(CLASS_SLOTS, dtype=np.uint64)
        counts = np.zeros(CLASS_SLOTS, dtype=np.int64)
        rows = np.zeros((CLASS_SLOTS, ROWS_PER_CLASS), dtype=np.uint32)
        lost = 0
        for start, block in index.blocks():
            check()
            lost += collect_classes(block, flat, bases, bits, *pruning, np.float32(floor), start, codes, counts, rows)
        if not lost:
            used = np.flatnonzero(codes)
            return codes[used] - np.uint64(1), counts[used], rows[used]
        floor += 1.0  # more classes than slots: the weakest of them go, and every count stays exact


def _decode(codes: NDArray[np.uint64], schema: LinkageSchema) -> NDArray[np.int64]:
    fields = len(schema.fields)
    shifts = np.arange(fields - 1, -1, -1, dtype=np.uint64) * np.uint64(LEVEL_BITS)
    decoded = (codes[:, None] >> shifts) & np.uint64((1 << LEVEL_BITS) - 1)
    return np.asarray(decoded, dtype=np.int64)


assert FILTER_WORDS == 8, "the kernels unroll eight words"
