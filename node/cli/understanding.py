"""How the node will read what the caseworker said, in words: shown before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matching.errors import FieldValueError
from matching.fields import parse_born, parse_sex
from matching.names import parse_name
from matching.places import province_name, regency_name, resolve_place

if TYPE_CHECKING:
    from datetime import date

    from node.cli.texts import Texts

PLACES_SHOWN: Final = 3


def name(texts: Texts, said: str) -> str:
    """Return a name as it will be compared. Raises FieldValueError when nothing is left of it."""
    parsed = parse_name(said)
    if not parsed.tokens:
        raise FieldValueError(field="name", reason="nothing is left of it after normalising")
    parts = [" ".join(parsed.tokens)]
    parts += [texts("known.alias", words=" ".join(alias)) for alias in parsed.aliases]
    parts += [texts("known.father", words=" ".join(parsed.father))] if parsed.father else []
    parts += [texts("known.mother", words=" ".join(parsed.mother))] if parsed.mother else []
    return "; ".join(parts)


def sex(texts: Texts, said: str) -> str:
    """Return the sex in words. Raises FieldValueError."""
    read = parse_sex(said)
    return texts(f"known.{read}") if read else texts("known.not")


def born(texts: Texts, said: str, today: date) -> str:
    """Return the years of birth that will be asked for, and month and day where they count. Raises FieldValueError."""
    read = parse_born(said, today)
    one_year = read.first_year == read.last_year
    parts = [texts("known.year" if one_year else "known.years", first=read.first_year, last=read.last_year)]
    parts += [texts("known.month", month=read.month)] if read.month else []
    parts += [texts("known.day", day=read.day)] if read.day else []
    return ", ".join(parts)


def place(texts: Texts, said: str) -> str:
    """Return the regencies a place may mean, with their province; or the provinces, when it names no regency."""
    resolved = resolve_place(said)
    places = [f"{regency_name(code)} ({province_name(code[:2])})" for code in resolved.regencies]
    places = places or [province_name(code) for code in resolved.provinces]
    if not places:
        return texts("known.no_place")
    shown = ", ".join(places[:PLACES_SHOWN])
    rest = len(places) - PLACES_SHOWN
    return texts("known.more_places", places=shown, count=rest) if rest > 0 else shown
