"""Normalised values + keys -> keyed encodings: filters of name tokens and places, tokens of dates and sex.

The layout of a filter, the order of bytes and the features are part of the linkage schema's rules version:
docs/matching.md, "Encoding", gives them in full, and tests/vectors holds known answers from a second implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from matching.errors import FieldValueError, SchemaError
from matching.fields import PartialDate, parse_born, parse_sex, year_classes
from matching.kernels import FILTER_WORDS, HALF_BITS
from matching.names import parse_name
from matching.phonetics import TokenForms, token_forms, wide_sound
from matching.places import ResolvedPlace, resolve_place
from matching.question import (
    MAX_REGENCIES,
    MAX_TOKENS,
    MAX_VARIANTS,
    Client,
    DateQuery,
    EncodedQuery,
    NameQuery,
    PlaceQuery,
    TokenQuery,
)
from matching.reference import token_weight
from matching.schema import FieldKind, FieldSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from matching.keys import FieldKeys

_NO_ALTERNATES: Final = frozenset({"alternates"})
FILTER_BYTES: Final = FILTER_WORDS * 8


def bigrams(form: str) -> set[str]:
    """Return the padded bigrams of a form: "ali" -> _a al li i_."""
    padded = f"_{form}_"
    return {padded[i : i + 2] for i in range(len(padded) - 1)}


class FilterEncoder:
    """Encodes the text of one field into 512-bit filters; remembers the bits of every feature it has met.

    Spelling half: padded bigrams of each token's spelling. Sound half: padded bigrams of its sound ("2" + bigram), the
    whole sound ("=" + sound) and the whole wide sound ("~" + wide sound). An initial sets its first bigram only.
    """

    def __init__(self, spec: FieldSpec, keys: FieldKeys) -> None:
        if spec.filter_words != FILTER_WORDS:
            raise SchemaError(f"field {spec.name}: the compiled kernels serve {FILTER_WORDS * 64}-bit filters only")
        self._spec = spec
        self._keys = keys
        self._spelling: dict[str, int] = {}
        self._sound: dict[str, int] = {}

    def initial(self, letter: str) -> int:
        """Return the filter of a single letter that stands for a token."""
        return self._spelling_bits(f"_{letter}")

    def token(self, forms: TokenForms, sound: str | None = None) -> int:
        """Return the filter of one token; `sound` replaces the token's own sound (an alternate)."""
        mask = 0
        for gram in bigrams(forms.spelling):
            mask |= self._spelling_bits(gram)
        heard = forms.sound if sound is None else sound
        for gram in bigrams(heard):
            mask |= self._sound_bits("2" + gram, self._spec.gram_positions)
        mask |= self._sound_bits("=" + heard, self._spec.token_positions)
        mask |= self._sound_bits("~" + wide_sound(heard), self._spec.token_positions)
        return mask

    def text(self, tokens: Iterable[str]) -> int:
        """Return one filter for several tokens, the union of theirs."""
        mask = 0
        for token in tokens:
            mask |= self.any(token)
        return mask

    def any(self, token: str) -> int:
        """Return the filter of a token as a registry stores it, initial or not."""
        return self.initial(token) if len(token) == 1 else self.token(_stored_forms(token))

    def _spelling_bits(self, gram: str) -> int:
        mask = self._spelling.get(gram)
        if mask is None:
            mask = self._mask("spelling", gram, self._spec.gram_positions)
            self._spelling[gram] = mask
        return mask

    def _sound_bits(self, feature: str, count: int) -> int:
        if feature[0] != "2":  # whole tokens are as many as tokens: not worth remembering
            return self._mask("sound", feature, count) << HALF_BITS
        mask = self._sound.get(feature)
        if mask is None:
            mask = self._mask("sound", feature, count) << HALF_BITS
            self._sound[feature] = mask
        return mask

    def _mask(self, purpose: str, feature: str, count: int) -> int:
        mask = 0
        for position in self._keys.positions(self._spec.name, purpose, feature, count, HALF_BITS):
            mask |= 1 << position
        return mask


@lru_cache(maxsize=1 << 16)
def _stored_forms(token: str) -> TokenForms:
    """Return the forms a registry stores; names and mothers' names share most tokens, and none needs alternates."""
    return token_forms(token, without=_NO_ALTERNATES)


def filter_words(masks: Sequence[int]) -> NDArray[np.uint64]:
    """Return filters as (n, 8) uint64: bit i of the mask is bit i % 64 of word i // 64."""
    joined = b"".join(mask.to_bytes(FILTER_BYTES, "little") for mask in masks)
    return np.frombuffer(joined, dtype="<u8").reshape(len(masks), FILTER_WORDS).astype(np.uint64, copy=False)


def date_tokens(keys: FieldKeys, field: str, value: PartialDate) -> tuple[int, int, int]:
    """Return the keyed tokens of year, month and day; 0 for a part that is not known."""
    year = keys.token(field, "year", str(value.year))
    month = keys.token(field, "month", str(value.month)) if value.month else 0
    day = keys.token(field, "day", str(value.day)) if value.day else 0
    return year, month, day


def place_tokens(keys: FieldKeys, field: str, codes: Sequence[str], purpose: str) -> NDArray[np.uint64]:
    """Return the keyed tokens of regency or province codes, sorted, at most MAX_REGENCIES."""
    return np.array(sorted(keys.token(field, purpose, code) for code in codes[:MAX_REGENCIES]), dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class FieldWarning:
    """A field that will help less than the caseworker may think. Never holds the value."""

    field: str
    reason: str


def client_warnings(client: Client) -> tuple[FieldWarning, ...]:
    """Return what about a client is worth a second look before asking; raises nothing."""
    warnings = []
    if client.birthplace and client.birthplace.strip():
        place = resolve_place(client.birthplace)
        if not place.regencies and not place.provinces:
            warnings.append(FieldWarning("birthplace", "unknown_place"))
    tokens = parse_name(client.name).tokens
    if tokens and all(len(token) == 1 for token in tokens):
        warnings.append(FieldWarning("name", "only_initials"))
    if len(tokens) > MAX_TOKENS:
        warnings.append(FieldWarning("name", "cut"))
    return tuple(warnings)


class QueryEncoder:
    """Encodes clients under one set of keys; keeps the features it has met, so reuse it."""

    def __init__(self, keys: FieldKeys) -> None:
        self.keys = keys
        self._filters = {
            spec.name: FilterEncoder(spec, keys)
            for spec in keys.schema.fields
            if spec.kind in {FieldKind.NAME, FieldKind.PLACE}
        }

    def encode(self, client: Client, today: date) -> EncodedQuery:
        """Encode a client for a question.

        today: the asker's date, from which an age becomes years of birth.
        Raises FieldValueError, without the value, for a name in which nothing is left after normalising, an
        impossible birth date or an unknown word for sex.
        """
        parsed = parse_name(client.name)
        if not parsed.tokens:
            raise FieldValueError(field="name", reason="nothing is left of it after normalising")
        mother = parse_name(client.mother_name).tokens if client.mother_name else parsed.mother
        father = parse_name(client.father_name).tokens if client.father_name else parsed.father
        aliases = tuple(token for alias in parsed.aliases for token in alias)
        sex = parse_sex(client.sex) if client.sex else None
        schema, epoch = self.keys.identity
        return EncodedQuery(
            fingerprint=schema,
            epoch=epoch,
            name=self._name("name", parsed.tokens + aliases),
            mother_name=self._name("mother_name", mother) if mother else None,
            father_name=self._name("father_name", father) if father else None,
            birthplace=self._place(client.birthplace) if client.birthplace and client.birthplace.strip() else None,
            birth_date=self._date(client.born, today) if client.born and client.born.strip() else None,
            sex=self.keys.token("sex", "sex", sex) if sex else None,
        )

    def _name(self, field: str, tokens: Sequence[str]) -> NameQuery:
        encoder = self._filters[field]
        unique = list(dict.fromkeys(tokens))
        # Rarest first: a rare token must not lose its registered partner to a common one. Cut after MAX_TOKENS.
        unique.sort(key=lambda token: -token_weight(token))
        return NameQuery(tuple(self._token(encoder, token) for token in unique[:MAX_TOKENS]))

    @staticmethod
    def _token(encoder: FilterEncoder, token: str) -> TokenQuery:
        if len(token) == 1:
            return TokenQuery(filter_words([encoder.initial(token)]), token_weight(token), initial=True)
        forms = token_forms(token)
        masks = [encoder.token(forms)]
        masks += [encoder.token(forms, sound) for sound in forms.alternates[: MAX_VARIANTS - 1]]
        return TokenQuery(filter_words(masks), token_weight(token), initial=False)

    def _place(self, text: str) -> PlaceQuery | None:
        place = resolve_place(text)
        if not place.text:
            return None
        return PlaceQuery(
            text=filter_words([self.place_filter(place)])[0],
            regencies=place_tokens(self.keys, "birthplace", place.regencies, "regency"),
            related=place_tokens(self.keys, "birthplace", place.related, "regency"),
            provinces=place_tokens(self.keys, "birthplace", place.provinces, "province"),
        )

    def place_filter(self, place: ResolvedPlace) -> int:
        """Return the filter of a place's text."""
        return self._filters["birthplace"].text(place.text.split())

    def _date(self, text: str, today: date) -> DateQuery:
        born = parse_born(text, today)
        years = year_classes(born, today.year)
        field = "birth_date"
        month, day = born.month, born.day
        # Only a day that could be a month can have changed places with it, and only when both are known.
        swappable = month > 0 and 0 < day <= 12 and month != day
        return DateQuery(
            years=np.array([self.keys.token(field, "year", str(year)) for year, _ in years], dtype=np.uint64),
            year_classes=np.array([int(kind) for _, kind in years], dtype=np.uint8),
            month=self.keys.token(field, "month", str(month)) if month else 0,
            day=self.keys.token(field, "day", str(day)) if day else 0,
            swapped_month=self.keys.token(field, "month", str(day)) if swappable else 0,
            swapped_day=self.keys.token(field, "day", str(month)) if swappable else 0,
        )


def encode_client(client: Client, keys: FieldKeys, today: date) -> EncodedQuery:
    """Encode one client; see QueryEncoder.encode."""
    return QueryEncoder(keys).encode(client, today)
