"""Normalised values + keys -> keyed encodings: filters of name tokens and places, tokens of dates and sex.

The layout of a filter, the order of bytes and the features are part of the linkage schema's rules version:
docs/matching.md, "Encoding", gives them in full, and tests/vectors holds known answers from a second implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import add
from typing import TYPE_CHECKING, Final

import numpy as np

from matching.errors import FieldValueError, SchemaError
from matching.fields import parse_sex, unpacked_dates, year_classes
from matching.kernels import FILTER_WORDS, HALF_BITS
from matching.names import parse_name, read_titles
from matching.places import resolve_place
from matching.question import (
    MAX_NEAR,
    MAX_REGENCIES,
    MAX_TOKENS,
    MAX_VARIANTS,
    Client,
    CodeQuery,
    DateQuery,
    EncodedQuery,
    FieldQuery,
    NameQuery,
    PlaceQuery,
    TokenQuery,
)
from matching.rules import NORMALISATION, NameRules, Normalisation
from matching.schema import TITLE, FieldKind, FieldSpec
from matching.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from matching.keys import FieldKeys
    from matching.phonetics import TokenForms

FILTER_BYTES: Final = FILTER_WORDS * 8


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """What a registry stores of many tokens, before any key.

    sounds: "" for an initial. calls: what bearers may be called, call_counts: (tokens,) how many of them are whose.
    weights: (tokens,) uint8.
    """

    tokens: Texts
    spellings: Texts
    sounds: Texts
    wides: Texts
    calls: Texts
    call_counts: NDArray[np.int64]
    weights: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.tokens)


def bigrams(form: str) -> set[str]:
    """Return the padded bigrams of a form: "ali" -> _a al li i_."""
    return set(map(add, f"_{form}", f"{form}_"))


class FilterEncoder:
    """Encodes the text of one field into 512-bit filters; remembers the bits of every feature it has met.

    Spelling half: padded bigrams of each token's spelling. Sound half: padded bigrams of its sound ("2" + bigram), the
    whole sound ("=" + sound) and the whole wide sound ("~" + wide sound). An initial sets its first bigram only.
    """

    def __init__(self, spec: FieldSpec, keys: FieldKeys, rules: Normalisation = NORMALISATION) -> None:
        if spec.filter_words != FILTER_WORDS:
            raise SchemaError(f"field {spec.name}: the compiled kernels serve {FILTER_WORDS * 64}-bit filters only")
        self.rules: NameRules = rules.names["id-name" if spec.kind is FieldKind.PLACE else spec.rules]
        self._spec = spec
        self._keys = keys
        self._spelling: dict[str, int] = {}
        self._sound: dict[str, int] = {}
        self._tables: dict[str, tuple[str, NDArray[np.uint64]]] = {}

    def initial(self, letter: str) -> int:
        """Return the filter of a single letter that stands for a token."""
        return self._spelling_bits(f"_{letter}")

    def token(self, forms: TokenForms, sound: str | None = None) -> int:
        """Return the filter of one token; `sound` replaces the token's own sound (an alternate)."""
        heard = forms.sound if sound is None else sound
        # Whole tokens are as many as tokens: their bits are not worth remembering.
        mask = self._mask("sound", "=" + heard, self._spec.token_positions)
        mask |= self._mask("sound", "~" + self.rules.wide(heard), self._spec.token_positions)
        known = self._sound
        for gram in bigrams(heard):
            mask |= known.get(gram) or self._sound_bits(gram)
        mask <<= HALF_BITS
        known = self._spelling
        for gram in bigrams(forms.spelling):
            mask |= known.get(gram) or self._spelling_bits(gram)
        return mask

    def many(self, stored: StoredTokens) -> NDArray[np.uint64]:
        """Return the filters of tokens as a registry stores them, (n, 8): for each what `any` says."""
        from matching.import_kernels import fill_filters, set_positions  # noqa: PLC0415 - only an import needs them

        out = np.zeros((len(stored), FILTER_WORDS), dtype=np.uint64)
        whole = np.zeros((len(stored), FILTER_WORDS // 2), dtype=np.uint64)
        for mark, forms in ((b"=", stored.sounds), (b"~", stored.wides)):
            count = self._spec.token_positions
            set_positions(self._keys.digests(self._spec.name, "sound", forms, 4 * count, mark), count, whole)
        spelling_grams = self._grams("spelling", "", stored.spellings)
        sound_grams = self._grams("sound", "2", stored.sounds)
        fill_filters(
            stored.spellings.data, stored.spellings.ends, stored.sounds.data, stored.sounds.ends, whole, spelling_grams,
            sound_grams, out,
        )  # fmt: skip
        return out

    def _grams(self, purpose: str, mark: str, forms: Texts) -> NDArray[np.uint64]:
        """Return the bits of every bigram of the characters met so far, by both characters' codes."""
        from matching.import_kernels import GRAM_CODES, set_positions  # noqa: PLC0415 - only an import needs them

        alphabet, table = self._tables.get(purpose, ("", np.zeros((0, 0, 0), dtype=np.uint64)))
        met = "".join(map(chr, np.flatnonzero(np.bincount(forms.data, minlength=GRAM_CODES)).tolist()))
        if not set(met) <= set(alphabet):
            alphabet = "".join(sorted({"_", *alphabet, *met}))
            grams = Texts.of([f"{mark}{a}{b}" for a in alphabet for b in alphabet])
            count = self._spec.gram_positions
            bits = np.zeros((len(grams), FILTER_WORDS // 2), dtype=np.uint64)
            set_positions(self._keys.digests(self._spec.name, purpose, grams, 4 * count), count, bits)
            table = np.zeros((GRAM_CODES, GRAM_CODES, FILTER_WORDS // 2), dtype=np.uint64)
            codes = np.frombuffer(alphabet.encode("ascii"), dtype=np.uint8)
            table[np.ix_(codes, codes)] = bits.reshape(len(codes), len(codes), -1)
            self._tables[purpose] = alphabet, table
        return table

    def near_many(self, stored: StoredTokens) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return what `near` says of each of many tokens, one after the other, and how many are whose."""
        from matching.import_kernels import leave_letters_out  # noqa: PLC0415 - only an import needs it

        lengths = np.diff(stored.tokens.ends)
        most = np.minimum(lengths, MAX_NEAR - 1) + 1
        forms = np.empty(int((most * lengths).sum()), dtype=np.uint8)
        ends = np.zeros(int(most.sum()) + 1, dtype=np.int64)
        counts = np.zeros(len(stored), dtype=np.int64)
        made = leave_letters_out(
            stored.tokens.data, stored.tokens.ends, MIN_NEAR_LETTERS, MAX_NEAR, forms, ends, counts
        )
        return self._keys.tokens(self._spec.name, "near", Texts(forms, ends[: made + 1])), counts

    def calls_many(self, stored: StoredTokens) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return what `calls` says of each of many tokens, one after the other, and how many are whose."""
        return self._keys.tokens(self._spec.name, "call", stored.calls), stored.call_counts

    def near(self, token: str) -> list[int]:
        """Return the keyed tokens of a token's near forms, sorted."""
        key = self._keys.token
        return sorted({key(self._spec.name, "near", form) for form in near_forms(token)})

    def asked_near(self, token: str) -> list[int]:
        """Return as many keyed tokens for any token, sorted: a question's size shall not tell how long a name is.

        What fills up the near forms is made of no letters, so that no registered token has it, and is the same for
        the same token: a question asked again has the same bytes.
        """
        key, found = self._keys.token, self.near(token)
        return sorted(found + [key(self._spec.name, "near", f"{i} {token}") for i in range(MAX_NEAR - len(found))])

    def calls(self, token: str) -> list[int]:
        """Return the keyed tokens of what the bearer of a registered token may be called, sorted."""
        return sorted(map(self.call, self.rules.calls(token)))

    def call(self, token: str) -> int:
        """Return the keyed token of a name as it is called."""
        return self._keys.token(self._spec.name, "call", token)

    def text(self, tokens: Iterable[str]) -> int:
        """Return one filter for several tokens, the union of theirs."""
        mask = 0
        for token in tokens:
            mask |= self.any(token)
        return mask

    def any(self, token: str) -> int:
        """Return the filter of a token as a registry stores it, initial or not."""
        if len(token) == 1 and self.rules.initials:
            return self.initial(token)
        return self.token(_stored_forms(self.rules.stored_forms, token))

    def _spelling_bits(self, gram: str) -> int:
        mask = self._spelling[gram] = self._mask("spelling", gram, self._spec.gram_positions)
        return mask

    def _sound_bits(self, gram: str) -> int:
        mask = self._sound[gram] = self._mask("sound", "2" + gram, self._spec.gram_positions)
        return mask

    def _mask(self, purpose: str, feature: str, count: int) -> int:
        mask = 0
        for position in self._keys.positions(self._spec.name, purpose, feature, count, HALF_BITS):
            mask |= 1 << position
        return mask


@lru_cache(maxsize=1 << 16)
def _stored_forms(stored_forms: Callable[[str], TokenForms], token: str) -> TokenForms:
    """Return the forms a registry stores; names and mothers' names share most tokens."""
    return stored_forms(token)


MIN_NEAR_LETTERS: Final = 4  # of shorter tokens, half the registry is one slip away


def near_forms(token: str) -> set[str]:
    """Return what tokens one slip of the pen apart have in common: a token, and it without each of its letters.

    A letter that was exchanged, added, left out, or swapped with its neighbour leaves at least one of these forms as it
    was. Source: Mor & Fraenkel 1982, CACM 25(12), "deletion neighbourhoods".
    """
    if len(token) < MIN_NEAR_LETTERS:
        return set()
    return {token, *(token[:i] + token[i + 1 :] for i in range(min(len(token), MAX_NEAR - 1)))}


def filter_words(masks: Sequence[int]) -> NDArray[np.uint64]:
    """Return filters as (n, 8) uint64: bit i of the mask is bit i % 64 of word i // 64."""
    joined = b"".join(mask.to_bytes(FILTER_BYTES, "little") for mask in masks)
    return np.frombuffer(joined, dtype="<u8").reshape(len(masks), FILTER_WORDS).astype(np.uint64, copy=False)


def date_tokens(
    keys: FieldKeys, field: str, dates: NDArray[np.int32], known: dict[tuple[str, int], int]
) -> NDArray[np.uint64]:
    """Return the keyed tokens of year, month and day of dates, given packed, (n, 3); 0 for a part that is not known.

    known: where the tokens of parts are remembered: there are thousands of dates, but few years, months and days.
    """
    out = np.zeros((len(dates), 3), dtype=np.uint64)
    parts = zip(("year", "month", "day"), unpacked_dates(dates), strict=True)
    for column, (purpose, numbers) in enumerate(parts):
        distinct, which = np.unique(numbers, return_inverse=True)
        for part in distinct.tolist():
            if (purpose, part) not in known:
                known[purpose, part] = keys.token(field, purpose, str(part)) if part else 0
        out[:, column] = np.array([known[purpose, part] for part in distinct.tolist()], dtype=np.uint64)[which]
    return out


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
    """Encodes questions under one set of keys; keeps the features it has met, so reuse it."""

    def __init__(self, keys: FieldKeys, rules: Normalisation = NORMALISATION) -> None:
        self.keys = keys
        self._rules = rules
        self._filters = {
            spec.name: FilterEncoder(spec, keys, rules)
            for spec in keys.schema.fields
            if spec.kind in {FieldKind.NAME, FieldKind.PLACE}
        }

    def encode(self, client: Client, today: date) -> EncodedQuery:
        """Encode a client for a question.

        today: the asker's date, from which an age becomes years of birth.
        Raises FieldValueError, without the value, for a name in which nothing is left after normalising, an
        impossible birth date or an unknown word for sex.
        """
        values = {
            "name": client.name,
            "mother_name": client.mother_name,
            "father_name": client.father_name,
            "birthplace": client.birthplace,
            "birth_date": client.born,
            "sex": client.sex,
        }
        query = self.encode_record(values, today)
        if "name" not in query.fields:
            raise FieldValueError(field="name", reason="nothing is left of it after normalising")
        return query

    def encode_record(self, values: Mapping[str, str | None], today: date) -> EncodedQuery:
        """Encode any record of the keys' schema: values by field name, None or blank = not known.

        Raises FieldValueError for a value that cannot be read, SchemaError for a field the schema does not have.
        """
        fields: dict[str, FieldQuery] = {}
        asked: FieldQuery | None
        implied: dict[str, Sequence[str]] = {}
        titles: Sequence[str] = ()
        for name, value in values.items():
            spec = self.keys.schema.field(name)
            if value is None or not value.strip():
                continue
            if spec.kind is FieldKind.NAME:
                parsed = self._filters[name].rules.parse(value)
                asked = self._name(name, parsed.tokens + tuple(token for alias in parsed.aliases for token in alias))
                if name == self.keys.schema.fields[0].name:
                    # "X bin Y" names the father, "By. Ny. X" the mother.
                    implied = {"father_name": parsed.father, "mother_name": parsed.mother}
                    titles = parsed.titles
            else:
                asked = self._other(spec, value, today)
            if asked is not None:
                fields[name] = asked
        for name, tokens in implied.items():
            if name not in fields and name in self._filters:
                said = self._name(name, tokens)
                if said is not None:
                    fields[name] = said
        if titles and TITLE not in fields and TITLE in self.keys.schema.field_names:
            # Who is not called by a title may have one all the same: only one that was said is asked for.
            fields[TITLE] = CodeQuery(self.keys.token(TITLE, TITLE, title_code(titles)))
        return EncodedQuery(*self.keys.identity, fields)

    def _other(self, spec: FieldSpec, value: str, today: date) -> FieldQuery | None:
        if spec.kind is FieldKind.PLACE:
            return self._place(spec.name, value)
        if spec.kind is FieldKind.DATE:
            return self._date(spec.name, value, today)
        code = read_code(spec, value)
        return None if code is None else CodeQuery(self.keys.token(spec.name, spec.rules, code))

    def _name(self, field: str, tokens: Sequence[str]) -> NameQuery | None:
        encoder = self._filters[field]
        # Rarest first: a rare token must not lose its registered partner to a common one. Cut after MAX_TOKENS.
        unique = sorted(dict.fromkeys(tokens), key=lambda token: -encoder.rules.weight(token))
        return NameQuery(tuple(_token(encoder, token) for token in unique[:MAX_TOKENS])) if unique else None

    def _place(self, field: str, text: str) -> PlaceQuery | None:
        place = self._rules.place(text)
        if not place.text:
            return None
        return PlaceQuery(
            text=filter_words([self._filters[field].text(place.text.split())])[0],
            regencies=place_tokens(self.keys, field, place.regencies, "regency"),
            related=place_tokens(self.keys, field, place.related, "regency"),
            provinces=place_tokens(self.keys, field, place.provinces, "province"),
            district=place.district,
        )

    def _date(self, field: str, text: str, today: date) -> DateQuery:
        born = self._rules.born(text, today)
        years = year_classes(born, today.year)
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


def _token(encoder: FilterEncoder, token: str) -> TokenQuery:
    weight = encoder.rules.weight(token)
    if len(token) == 1 and encoder.rules.initials:
        return TokenQuery(filter_words([encoder.initial(token)]), weight, initial=True)
    forms = encoder.rules.forms(token)
    masks = [encoder.token(forms)]
    masks += [encoder.token(forms, sound) for sound in forms.alternates[: MAX_VARIANTS - 1]]
    near = np.array(encoder.asked_near(token), dtype=np.uint64)
    return TokenQuery(filter_words(masks), weight, initial=False, near=near, call=encoder.call(token))


def title_code(titles: Sequence[str]) -> str:
    """Return titles and degrees as one code; having none is a code, too."""
    return "+".join(sorted(titles)) or "-"


def read_code(spec: FieldSpec, value: str) -> str | None:
    """Return the canonical form of a code, None when it is blank. Raises FieldValueError on an unknown word for sex."""
    if spec.rules == "sex":
        return parse_sex(value)
    if spec.rules == TITLE:
        return title_code(read_titles(value)) if value.strip() else None
    return " ".join(value.lower().split()) or None


def encode_client(client: Client, keys: FieldKeys, today: date) -> EncodedQuery:
    """Encode one client; see QueryEncoder.encode."""
    return QueryEncoder(keys).encode(client, today)
