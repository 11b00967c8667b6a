"""Blocking keys for bulk linkage: persons who share none of them are never compared.

Several passes, so that no single error hides a pair. A key joins what is heard (the skeletons of name tokens, rule 10)
with something else the two records must share; what one side may have got wrong, the asking side lists in full. Keys
are keyed tokens, made when records are encoded and held in memory only: they are in no index, no question, no answer.
"""

from __future__ import annotations

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


class BlockEncoder:
    """Makes the blocking keys of records of one schema: names with a date, a place, a parent, or each other.

    Raises SchemaError for a schema without a name.
    """

    def __init__(self, keys: FieldKeys, rules: Normalisation = NORMALISATION) -> None:
        self._keys = keys
        self._rules = rules
        names = [spec for spec in keys.schema.fields if spec.kind is FieldKind.NAME]
        if not names:
            raise SchemaError(f"schema {keys.schema.name} has no name: phonetic blocking needs one")
        self._name, *self._kin = names
        self._dates = [spec.name for spec in keys.schema.fields if spec.kind is FieldKind.DATE]
        self._places = [spec.name for spec in keys.schema.fields if spec.kind is FieldKind.PLACE]

    def stored(self, values: Values) -> tuple[int, ...]:
        """Return the keys under which a registered person is found."""
        names, kin = self._names(values, asked=False)
        years: set[int] = set()
        for field in self._dates:
            try:
                years.add(self._rules.registry_date(values.get(field) or "").year)
            except FieldValueError:
                continue  # a person whose date cannot be read is found by the rest
        places = [code for field in self._places for code in self._rules.place(values.get(field) or "").regencies]
        return self._joined(names, kin, years, places)

    def asked(self, values: Values, today: date) -> tuple[int, ...]:
        """Return the keys to look under: other readings of the name, near years and related places included."""
        names, kin = self._names(values, asked=True)
        years: set[int] = set()
        for field in self._dates:
            try:
                born = self._rules.born(values.get(field) or "", today)
            except FieldValueError:
                continue
            years.update(year for year, kind in year_classes(born, today.year) if kind in YEAR_CLASSES)
        places = [self._rules.place(values.get(field) or "") for field in self._places]
        codes = chain.from_iterable((*place.regencies, *place.related) for place in places)
        return self._joined(names, kin, years, list(codes))

    def _names(self, values: Values, *, asked: bool) -> tuple[list[tuple[set[str], int]], list[set[str]]]:
        """Return the skeletons and the rarity of each token of the name, and the skeletons of each of the parents'."""
        rules = self._rules.names[self._name.rules]
        parsed = rules.parse(values.get(self._name.name) or "")
        own = _rarest(rules, chain(parsed.tokens, *parsed.aliases), NAME_TOKENS)
        said = {"father_name": parsed.father, "mother_name": parsed.mother}
        kin: list[set[str]] = []
        for spec in self._kin:
            theirs = self._rules.names[spec.rules]
            tokens = theirs.parse(values.get(spec.name) or "").tokens or said.get(spec.name, ())
            kin += [_skeletons(theirs, token, asked=asked) for token in _rarest(theirs, tokens, KIN_TOKENS)]
        return [(_skeletons(rules, token, asked=asked), rules.weight(token)) for token in own], kin

    def _joined(
        self,
        names: Sequence[tuple[set[str], int]],
        kin: Sequence[set[str]],
        years: Iterable[int],
        places: Sequence[str],
    ) -> tuple[int, ...]:
        telling = [skeletons for skeletons, weight in names if weight > COMMON_QUARTER_BITS] or [
            skeletons for skeletons, _ in names
        ]
        # A newborn without a name of its own is found by its mother's.
        heard = set(chain.from_iterable(telling or kin))
        texts = {f"rare {one}" for skeletons, weight in names if weight >= RARE_QUARTER_BITS for one in skeletons}
        for (ones, _), (others, _) in combinations(names, 2):
            texts.update(f"pair {min(a, b)} {max(a, b)}" for a in ones for b in others)
        witnesses = [
            *(f"year {year}" for year in years),
            *(f"place {code}" for code in places[:MAX_PLACES]),
            *(f"kin {other}" for other in set(chain.from_iterable(kin))),
        ]
        texts.update(f"{witness} {one}" for witness in witnesses for one in heard)
        return tuple(self._keys.token(self._name.name, "block", text) for text in sorted(texts))


def _rarest(rules: NameRules, tokens: Iterable[str], count: int) -> list[str]:
    """Return the rarest tokens of a name; an initial says too little to find anybody by."""
    whole = [token for token in dict.fromkeys(tokens) if len(token) > 1 or not rules.initials]
    return sorted(whole, key=lambda token: (-rules.weight(token), token))[:count]


def _skeletons(rules: NameRules, token: str, *, asked: bool) -> set[str]:
    forms = rules.forms(token) if asked else rules.stored_forms(token)
    return {forms.skeleton, *(rules.skeleton(sound) for sound in forms.alternates)}


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
