"""What a question and its answers are made of once no raw value is left in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAX_TOKENS = 6  # per name: longer names are cut after the sixth token, which no gold name reaches
MAX_VARIANTS = 4  # spellings sent per token
MAX_NEAR = 17  # keyed tokens of what a name's token is one slip away from: itself, and itself without each letter
MAX_YEARS = 256  # keyed year tokens per question: a band of a century with its surroundings
MAX_REGENCIES = 32
CLASSES_PER_ANSWER = 16
HANDLES_PER_ANSWER = 5  # more would let a member read a registry out (threat T4)
HANDLE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Client:
    """A person as the caseworker describes them. Own side only; never sent, never logged, never printed.

    born: as written (a date, a year, a range, an age, `1958~3`); see matching.fields.parse_born.
    """

    name: str = field(repr=False)
    sex: str | None = field(default=None, repr=False)
    born: str | None = field(default=None, repr=False)
    birthplace: str | None = field(default=None, repr=False)
    mother_name: str | None = field(default=None, repr=False)
    father_name: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """One token of a name.

    variants: (1..MAX_VARIANTS, filter_words) uint64, the spellings it may have been registered under.
    weight: rarity in quarter bits, 1..255, from the shipped reference table.
    initial: the token is a single letter and stands for any token that starts with it.
    near: (0..MAX_NEAR,) uint64, sorted; a registered token one slip of the pen away shares one of these keyed tokens.
    call: keyed token of the token itself, to be looked for among what bearers of registered tokens are called; or 0.
    """

    variants: NDArray[np.uint64] = field(repr=False)
    weight: int
    initial: bool
    near: NDArray[np.uint64] = field(repr=False, default_factory=lambda: np.empty(0, dtype=np.uint64))
    call: int = field(repr=False, default=0)


@dataclass(frozen=True, slots=True)
class NameQuery:
    """The tokens of one name, at most MAX_TOKENS; their order carries no meaning."""

    tokens: tuple[TokenQuery, ...]


@dataclass(frozen=True, slots=True)
class PlaceQuery:
    """A place: filter (filter_words,) uint64 of its text; keyed tokens (uint64) of what it may resolve to.

    district: the text names no regency, only a district in it.
    """

    text: NDArray[np.uint64] = field(repr=False)
    regencies: NDArray[np.uint64] = field(repr=False)
    related: NDArray[np.uint64] = field(repr=False)
    provinces: NDArray[np.uint64] = field(repr=False)
    district: bool = field(default=False, repr=False)


@dataclass(frozen=True, slots=True)
class DateQuery:
    """A birth date.

    years: keyed year tokens; year_classes (same length, uint8): how far each lies from what the client said
    (see matching.fields.YearClass). month, day: keyed tokens, 0 when unknown; swapped_*: day and month exchanged.
    """

    years: NDArray[np.uint64] = field(repr=False)
    year_classes: NDArray[np.uint8] = field(repr=False)
    month: int = field(repr=False)
    day: int = field(repr=False)
    swapped_month: int = field(repr=False)
    swapped_day: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class CodeQuery:
    """A value that agrees or does not: its keyed token."""

    token: int = field(repr=False)


FieldQuery: TypeAlias = NameQuery | PlaceQuery | DateQuery | CodeQuery


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """Everything a question carries about the client: keyed encodings and nothing else.

    fields: by the schema's field names; a field that is not known is not there.
    """

    fingerprint: bytes
    epoch: int
    fields: Mapping[str, FieldQuery]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one registry answers: never a score, never a similarity.

    size: persons in the registry. histograms: per field of the schema, int64 counts per level (rounded).
    class_levels: (classes, fields) uint8, best first by the registry's own null. class_counts: (classes,) int64,
    rounded to half octaves, exact up to 4.
    """

    size: int
    histograms: tuple[NDArray[np.int64], ...]
    class_levels: NDArray[np.uint8]
    class_counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Evidence for the asker; and, own side only, the record behind each handle.

    candidates: at most HANDLES_PER_ANSWER pairs (class index, row of the index). bits: (fields, MAX_LEVELS) float32,
    match weight of every level by this registry's own null.
    """

    evidence: Evidence
    candidates: tuple[tuple[int, int], ...]
    bits: NDArray[np.float32] = field(repr=False)
