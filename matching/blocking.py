"""Blocking keys for bulk linkage: persons who share none of them are never compared.

Several passes, so that no single error hides a pair. A key joins what is heard (the skeletons of name tokens, rule 10)
with something else the two records must share; what one side may have got wrong, the asking side lists in full. Keys
are keyed tokens, made when records are encoded and held in memory only: they are in no index, no question, no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from matching.errors import FieldValueError, SchemaError
from matching.fields import YearClass, year_classes
from matching.rules import NORMALISATION
from matching.schema import FieldKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from matching.keys import FieldKeys
    from matching.rules import NameRules, Normalisation

    Values = Mapping[str, str | None]

NAME_TOKENS: Final = 4  # the rarest of a name; six pairs
KIN_TOKENS: Final = 2  # the rarest of a parent's name
RARE_QUARTER_BITS: Final = 4 * 13  # a token borne by fewer than one in 8,192 needs no second witness
COMMON_QUARTER_BITS: Final = 4 * 4  # one borne by more than one in 16 is no witness, unless there is no other
YEAR_CLASSES: Final = frozenset({YearClass.EXACT, YearClass.OFF_1, YearClass.OFF_2, YearClass.CONFUSED})
MAX_PLACES: Final = 8


@dataclass(frozen=True, slots=True)
class _Token:
    """One name token: how it may sound, and how rare it is in quarter bits."""

    skeletons: frozenset[str]
    weight: int


@dataclass(frozen=True, slots=True)
class _Facts:
    """What of a record goes into its keys. days: whole dates of birth."""

    names: Sequence[_Token]
    kin: Sequence[_Token]
    years: frozenset[int]
    days: frozenset[str]
    places: frozenset[str]


class BlockEncoder:
    """Makes the blocking keys of records of one schema: names with a date, a place, a parent, or each other.

    Raises SchemaError for a schema without a name.
    """

    def __init__(self, keys: FieldKeys, rules: Normalisation = NORMALISATION) -> None:
        names = [spec for spec in keys.schema.fields if spec.kind is FieldKind.NAME]
        if not names:
            raise SchemaError(f"schema {keys.schema.name} has no name: phonetic blocking needs one")
        self._keys = keys
        self._rules = rules
        self._name, *self._kin = names
        self._dates = [spec.name for spec in keys.schema.fields if spec.kind is FieldKind.DATE]
        self._places = [spec.name for spec in keys.schema.fields if spec.kind is FieldKind.PLACE]

    def stored(self, values: Values) -> tuple[int, ...]:
        """Return the keys under which a registered person is found."""
        dates = []
        for field in self._dates:
            try:
                dates.append(self._rules.registry_date(values.get(field) or ""))
            except FieldValueError:
                continue  # a person whose date cannot be read is found by the rest
        places = [code for field in self._places for code in self._rules.place(values.get(field) or "").regencies]
        facts = _Facts(
            *self._names(values, asked=False),
            years=frozenset(date.year for date in dates),
            days=frozenset(f"{date.year}-{date.month}-{date.day}" for date in dates if date.month and date.day),
            places=frozenset(places[:MAX_PLACES]),
        )
        return self._hashed(facts, alone=0)

    def asked(self, values: Values, today: date) -> tuple[int, ...]:
        """Return the keys to look under: other readings of the name, near years and related places included."""
        years: set[int] = set()
        days: set[str] = set()
        for field in self._dates:
            try:
                born = self._rules.born(values.get(field) or "", today)
            except FieldValueError:
                continue
            years.update(year for year, kind in year_classes(born, today.year) if kind in YEAR_CLASSES)
            if born.month and born.day:
                days.add(f"{born.first_year}-{born.month}-{born.day}")
        resolved = [self._rules.place(values.get(field) or "") for field in self._places]
        places = list(chain.from_iterable((*place.regencies, *place.related) for place in resolved))[:MAX_PLACES]
        names, kin = self._names(values, asked=True)
        facts = _Facts(names, kin, frozenset(years), frozenset(days), frozenset(places))
        witnessed = len(names) > 1 or kin or years or places
        return self._hashed(facts, alone=RARE_QUARTER_BITS if witnessed else 0)

    def _names(self, values: Values, *, asked: bool) -> tuple[list[_Token], list[_Token]]:
        rules = self._rules.names[self._name.rules]
        parsed = rules.parse(values.get(self._name.name) or "")
        own = _rarest(rules, chain(parsed.tokens, *parsed.aliases), NAME_TOKENS, asked=asked)
        said = {"father_name": parsed.father, "mother_name": parsed.mother}
        kin: list[_Token] = []
        for spec in self._kin:
            theirs = self._rules.names[spec.rules]
            tokens = theirs.parse(values.get(spec.name) or "").tokens or said.get(spec.name, ())
            kin += _rarest(theirs, tokens, KIN_TOKENS, asked=asked)
        return own, kin

    def _hashed(self, facts: _Facts, alone: int) -> tuple[int, ...]:
        """Return the keyed tokens of every pass. alone: the least rarity of a token that needs no second witness."""
        names = {one for token in _telling(facts.names) for one in token.skeletons}
        kin = {one for token in _telling(facts.kin) for one in token.skeletons}
        texts = {f"name {one}" for token in facts.names if token.weight >= alone for one in token.skeletons}
        texts |= {f"kin {one}" for token in facts.kin if token.weight >= RARE_QUARTER_BITS for one in token.skeletons}
        for one, other in combinations(facts.names, 2):
            texts |= {f"names {min(a, b)} {max(a, b)}" for a in one.skeletons for b in other.skeletons}
        texts |= {f"name year {a} {b}" for a in names for b in facts.years}
        texts |= {f"name place {a} {b}" for a in names for b in facts.places}
        texts |= {f"name kin {a} {b}" for a in names for b in kin}
        texts |= {f"kin year {a} {b}" for a in kin for b in facts.years}
        texts |= {f"kin place {a} {b}" for a in kin for b in facts.places}
        texts |= {f"year place {a} {b}" for a in facts.years for b in facts.places}
        texts |= {f"day {a}" for a in facts.days}
        return tuple(self._keys.token(self._name.name, "block", text) for text in sorted(texts))


def _telling(tokens: Sequence[_Token]) -> Sequence[_Token]:
    """Return the tokens that are no common ones, all of them if there is no other."""
    return [token for token in tokens if token.weight > COMMON_QUARTER_BITS] or tokens


def _rarest(rules: NameRules, tokens: Iterable[str], count: int, *, asked: bool) -> list[_Token]:
    """Return the rarest tokens of a name; an initial says too little to find anybody by."""
    whole = [token for token in dict.fromkeys(tokens) if len(token) > 1 or not rules.initials]
    chosen = sorted(whole, key=lambda token: (-rules.weight(token), token))[:count]
    return [_Token(_skeletons(rules, token, asked=asked), rules.weight(token)) for token in chosen]


def _skeletons(rules: NameRules, token: str, *, asked: bool) -> frozenset[str]:
    forms = rules.forms(token) if asked else rules.stored_forms(token)
    return frozenset(rules.skeleton(sound) for sound in (forms.sound, *forms.alternates))


class Blocks:
    """Which rows of a registry lie under each blocking key."""

    def __init__(self, keys: NDArray[np.uint64], rows: NDArray[np.uint32]) -> None:
        self._keys = keys
        self._rows = rows

    @classmethod
    def build(cls, keys_by_row: Iterable[Sequence[int]]) -> Blocks:
        """Sort the keys of rows 0, 1, 2, ... of a registry."""
        lengths: list[int] = []

        def flat() -> Iterable[int]:
            for keys in keys_by_row:
                lengths.append(len(keys))
                yield from keys

        keys = np.fromiter(flat(), dtype=np.uint64)
        rows = np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], rows[order])

    def candidates(self, keys: Sequence[int]) -> NDArray[np.uint32]:
        """Return the rows that share at least one of the keys, in order."""
        asked = np.array(keys, dtype=np.uint64)
        starts = np.searchsorted(self._keys, asked, side="left")
        stops = np.searchsorted(self._keys, asked, side="right")
        found = [self._rows[start:stop] for start, stop in zip(starts, stops, strict=True) if start < stop]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.uint32)
