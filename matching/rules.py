"""Which normalisation a field uses: the schema names a set of rules, these tables say what they are."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import jellyfish

from matching.fields import parse_born, parse_registry_date
from matching.names import ParsedName, parse_name
from matching.phonetics import TokenForms, skeleton, token_forms, wide_sound
from matching.places import resolve_place
from matching.reference import call_forms, token_weight

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from matching.fields import Born, PartialDate
    from matching.places import ResolvedPlace

FLAT_WEIGHT: Final = 40  # 10 bits: where no reference says how rare a token is, all are alike
MAX_TEXT: Final = 160
PERSON_NAME: Final = "id-name"  # where these rules stand first, questions are asked by name

_LETTERS = re.compile("[a-z]+")
_LETTERS_DIGITS = re.compile("[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class NameRules:
    """Normalisation of one kind of name.

    parse: text to tokens. forms: token to spelling, sound and alternates; stored_forms: the same without alternates.
    calls: token to what its bearer may be called instead. wide: sound to wide sound; skeleton: sound to blocking form.
    weight: rarity in quarter bits. initials: a single letter stands for a longer token.
    """

    parse: Callable[[str], ParsedName]
    forms: Callable[[str], TokenForms]
    stored_forms: Callable[[str], TokenForms]
    calls: Callable[[str], set[str]]
    wide: Callable[[str], str]
    skeleton: Callable[[str], str]
    weight: Callable[[str], int]
    initials: bool


def _ascii(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text[:MAX_TEXT]).encode("ascii", "ignore")
    return folded.decode("ascii").lower()


def _english_forms(token: str) -> TokenForms:
    """Return an English token with its metaphone as sound. Source: Philips 1990, through jellyfish."""
    sound = jellyfish.metaphone(token).lower().replace(" ", "") or token
    return TokenForms(token, sound, (), sound)


def _plain_forms(token: str) -> TokenForms:
    return TokenForms(token, token, (), token)


def _not_called(token: str) -> set[str]:  # noqa: ARG001 - no table says what anybody is called
    return set()


def _same(sound: str) -> str:
    return sound


def _flat(token: str) -> int:  # noqa: ARG001 - no token is rarer than another
    return FLAT_WEIGHT


_NO_ALTERNATES: Final = frozenset({"alternates"})

NAME_RULES: Final[dict[str, NameRules]] = {
    PERSON_NAME: NameRules(
        parse=parse_name,
        forms=token_forms,
        stored_forms=lambda token: token_forms(token, without=_NO_ALTERNATES),
        calls=call_forms,
        wide=wide_sound,
        skeleton=skeleton,
        weight=token_weight,
        initials=True,
    ),
    "en-name": NameRules(
        parse=lambda text: ParsedName(tuple(_LETTERS.findall(_ascii(text)))),
        forms=_english_forms,
        stored_forms=_english_forms,
        calls=_not_called,
        wide=_same,
        skeleton=_same,
        weight=_flat,
        initials=True,
    ),
    "text": NameRules(
        parse=lambda text: ParsedName(tuple(_LETTERS_DIGITS.findall(_ascii(text)))),
        forms=_plain_forms,
        stored_forms=_plain_forms,
        calls=_not_called,
        wide=_same,
        skeleton=_same,
        weight=_flat,
        initials=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Everything that stands between a raw value and its encoding; a benchmark leaves out a rule at a time.

    names: by the schema's name of the rules.
    """

    names: Mapping[str, NameRules]
    place: Callable[[str], ResolvedPlace]
    registry_date: Callable[[str], PartialDate]
    born: Callable[[str, date], Born]


NORMALISATION: Final = Normalisation(NAME_RULES, resolve_place, parse_registry_date, parse_born)
