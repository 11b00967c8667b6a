"""Birth dates, ages and sex, as registries hold them and as caseworkers hear them."""

from __future__ import annotations

import re
from datetime import date, timedelta
from enum import IntEnum
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from matching.errors import FieldValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from matching.texts import Texts

# Nobody who can be brought home was born earlier; databases write 1900-01-01 and 1899-12-30 for "no date".
FIRST_YEAR: Final = 1901
LAST_YEAR: Final = 2099
OLDEST_AGE: Final = 120
# Until 2030 a two-digit year from 30 up can only be of the last century; below it may be of either.
REGISTRY_TWO_DIGIT_FROM: Final = 30
ABOUT_YEARS: Final = 2  # "about 1958", and an age that was rounded to a multiple of five
MAX_MARGIN_YEARS: Final = 20
DECADE: Final = 10

# Dates that registries give to people who do not know theirs: 9 % of all registered birth dates, so no evidence
# beyond the year. The 15th stands for "the month alone is known".
DEFAULT_DATES: Final = frozenset({(1, 1), (7, 1), (12, 31)})
DEFAULT_DAY: Final = 15

BLANKS: Final = frozenset(
    ["", "-", "--", "---", ".", "?", "0", "null", "none", "nan", "nat", "na", "n/a", "#n/a", "\\n"]
)


class PartialDate(NamedTuple):
    """A date of which month and day may be unknown (0)."""

    year: int
    month: int
    day: int

    @property
    def packed(self) -> int:
        """The date as one number below PACKED_DATES; 0 for one of which nothing is known."""
        return self.year << 9 | self.month << 5 | self.day


class Born(NamedTuple):
    """The years in which a client may have been born (both inclusive); month and day, 0 when unknown."""

    first_year: int
    last_year: int
    month: int
    day: int


class YearClass(IntEnum):
    """How far a registered year of birth lies from what the client said; travels as one byte."""

    EXACT = 0  # inside the years given
    OFF_1 = 1
    OFF_2 = 2
    OFF_3_4 = 3
    OFF_5_7 = 4
    OFF_8_10 = 5
    CONFUSED = 6  # further off, but one digit wrong or two digits exchanged: a slip of pen or ear


def is_blank(text: str) -> bool:
    """Whether a registry means "no value" by this text."""
    return text.strip().lower() in BLANKS


# --- dates ----------------------------------------------------------------------------------------------------------

_MONTHS: Final = {
    1: ("januari", "january", "djanuari"),
    2: ("februari", "february", "pebruari"),
    3: ("maret", "march", "mrt"),
    4: ("april",),
    5: ("mei", "may"),
    6: ("juni", "june", "djuni"),
    7: ("juli", "july", "djuli"),
    8: ("agustus", "august", "agt", "agst", "agts", "ags", "agoestoes"),
    9: ("september", "sept"),
    10: ("oktober", "october", "okt"),
    11: ("november", "nopember"),
    12: ("desember", "december"),
}
_ROMAN: Final = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
_WEEKDAY: Final = re.compile(r"^(?:senin|selasa|rabu|kamis|jum'?at|sabtu|minggu|ahad|[a-z]{3,6}day)\b")
_TIME: Final = re.compile(
    r"[t\s]\d{1,2}(?::\d{2}(?::\d{2})?|\.\d{2}\.\d{2})(?:[.,]\d+)?\s*(?:am|pm)?\s*(?:z|utc|wib|wita|wit|[+-]\d{2}:?\d{2})?$"
)
_DAY_FIRST: Final = re.compile(r"([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})")
_YEAR_FIRST: Final = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[ T]00:00:00)?")
_SPLIT: Final = re.compile(r"[\s./\\,_-]+|(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)")


@cache
def _month_words() -> dict[str, int]:
    """Return every full name, and each three-letter or longer beginning that only one month has."""
    words: dict[str, int] = {}
    clashes: set[str] = set()
    for number, names in _MONTHS.items():
        for name in names:
            for end in range(3, len(name) + 1):
                if words.setdefault(name[:end], number) != number:
                    clashes.add(name[:end])
    return {word: number for word, number in words.items() if word not in clashes} | {
        numeral: number for number, numeral in enumerate(_ROMAN, start=1)
    }


@lru_cache(maxsize=1 << 16)  # a hundred years have 36,525 days
def parse_registry_date(text: str) -> PartialDate:
    """Read a birth date as registries write it: day first unless the year leads, months as numbers or words.

    Default dates (1 January, 1 July, 31 December) keep their year alone; the 15th is no day.
    Raises FieldValueError (field birth_date), without the value, for what is no possible date.
    """
    # Nearly every registered date has one of two forms, and an import reads them by the ten thousand.
    if parts := _DAY_FIRST.fullmatch(text):
        found = _checked(parts[3], parts[2], parts[1])
    elif parts := _YEAR_FIRST.fullmatch(text):
        found = _checked(parts[1], parts[2], parts[3])
    else:
        found = None
    return _default_removed(found or _read_date(text, "birth_date", two_digit_from=REGISTRY_TWO_DIGIT_FROM))


def _checked(year_text: str, month_text: str, day_text: str) -> PartialDate | None:
    """Return the date if nothing about it needs a closer look."""
    year, month, day = int(year_text), int(month_text), int(day_text)
    if FIRST_YEAR <= year <= LAST_YEAR and 1 <= month <= 12 and 1 <= day <= 28:
        return PartialDate(year, month, day)
    return None


def _default_removed(found: PartialDate) -> PartialDate:
    if (found.month, found.day) in DEFAULT_DATES:
        return PartialDate(found.year, 0, 0)
    return found._replace(day=0) if found.day == DEFAULT_DAY else found


def _read_date(text: str, field: str, *, two_digit_from: int) -> PartialDate:
    """Read day, month and year in whatever of the known orders they stand."""
    bare = _WEEKDAY.sub("", _TIME.sub("", text.strip().lower()))
    parts = [part for part in _SPLIT.split(bare) if part]
    if not parts:
        raise FieldValueError(field=field, reason="empty")
    if len(parts) == 1 and parts[0].isdigit() and len(parts[0]) == 8:
        parts = _cut_digits(parts[0])
    if len(parts) > 3 or not all(part.isascii() and (part.isdigit() or part.isalpha()) for part in parts):
        raise FieldValueError(field=field, reason="not a date")
    if len(parts) == 3 and len(parts[0]) == 4:
        parts.reverse()
    elif len(parts) == 3 and parts[0].isalpha() and parts[1].isdigit():  # August 17, 1945
        parts[0], parts[1] = parts[1], parts[0]
    elif len(parts) == 2 and len(parts[0]) == 4:
        parts.reverse()
    year = _year(parts[-1], field, two_digit_from=two_digit_from)
    month = _month(parts[-2], field) if len(parts) > 1 else 0
    day = _day(parts[-3], field, year, month) if len(parts) > 2 else 0
    return PartialDate(year, month, day)


def _cut_digits(digits: str) -> list[str]:
    """Cut 19450817 or 17081945: the month place tells them apart, for no month is called 19 or 20."""
    if int(digits[4:6]) > 12:
        return [digits[:2], digits[2:4], digits[4:]]
    return [digits[:4], digits[4:6], digits[6:]]


def _year(part: str, field: str, *, two_digit_from: int) -> int:
    if not part.isdigit():
        raise FieldValueError(field=field, reason="no year in it")
    if len(part) == 2:
        if int(part) < two_digit_from:
            raise FieldValueError(field=field, reason="a two-digit year that may be of two centuries")
        return 1900 + int(part)
    if len(part) != 4:
        raise FieldValueError(field=field, reason="not a date")
    year = int(part)
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise FieldValueError(field=field, reason=f"a year outside {FIRST_YEAR} to {LAST_YEAR}")
    return year


def _month(part: str, field: str) -> int:
    month = _month_words().get(part, -1) if part.isalpha() else int(part) if len(part) <= 2 else -1
    if not 0 <= month <= 12:
        raise FieldValueError(field=field, reason="no such month")
    return month


def _day(part: str, field: str, year: int, month: int) -> int:
    if not part.isdigit() or len(part) > 2 or int(part) > _days_in(year, month):
        raise FieldValueError(field=field, reason="no such day in that month")
    return int(part) if month else 0


def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in {4, 6, 9, 11} else 31


def unpacked_dates(numbers: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return years, months and days of dates given as `PartialDate.packed`."""
    return numbers >> 9, numbers >> 5 & 15, numbers & 31


PACKED_DATES: Final = (LAST_YEAR + 1) << 9
UNREAD: Final = -1


def packed_dates(texts: Texts) -> NDArray[np.int32]:
    """Read the registered birth dates of one of the two usual forms, all together, as `PartialDate.packed`.

    UNREAD for any other text: that is for `parse_registry_date`, whose answers the others are.
    """
    from matching.import_kernels import read_dates  # noqa: PLC0415 - only an import needs it

    out = np.empty(len(texts), dtype=np.int32)
    read_dates(texts.data, texts.ends, FIRST_YEAR, LAST_YEAR, _month_days(), UNREAD, out)
    return out


@cache
def _month_days() -> NDArray[np.int32]:
    """Return by month << 5 | day what is kept of them, UNREAD for no day of any year."""
    kept = np.full(16 << 5, UNREAD, dtype=np.int32)
    for day in range(366):
        found = date(2000, 1, 1) + timedelta(day)
        kept[found.month << 5 | found.day] = _default_removed(PartialDate(0, found.month, found.day)).packed
    kept.flags.writeable = False
    return kept


# --- what a caseworker says -----------------------------------------------------------------------------------------

_DASHES: Final = re.compile("[\u2010-\u2015\u2212]")
_AGE_WORD: Final = r"(?:berumur|umur|usia|umurnya|usianya|aged?)"
_YEARS_WORD: Final = r"(?:tahun|thn|th|t|years?|yrs?|y|yo|y/o)\.?(?:\s*old)?"
_MONTHS_WORD: Final = r"(?:bulan|bln|months?|mos?)\.?"
_YEAR_PREFIX: Final = re.compile(r"^(?:(?:lahir|kelahiran|tahun|thn|th|born|in|pada|tgl|tanggal)\b[.:]?\s*)+")
_ABOUT: Final = re.compile(
    r"^(?:~|±|\+/?-|(?:sekitar|kira[\s-]*kira|kurang\s+lebih|kl|lk|sktr|ca|c|about|around|approx|circa)\b\.?)\s*"
)
_TOLERANCE: Final = re.compile(r"(?<=\S)\s*(?:~|±|\+\s*/?\s*-)\s*(\d{1,2})(?!\d)")
_RANGE: Final = r"(\d{%s})\s*(?:-|/|s\.?\s*/?\s*d\.?|sampai(?:\s+dengan)?|hingga|atau|to|or|until|dan|and)\s*(\d{%s})"
_YEAR_RANGE: Final = re.compile(r"^(?:antara|between|from|dari)?\s*" + _RANGE % ("4", "4") + "$")
_SHORT_YEAR_RANGE: Final = re.compile(r"^(\d{4})\s*[-/]\s*(\d{2})$")
_AGE: Final = re.compile(rf"^({_AGE_WORD}\s*:?\s*)?(\d{{1,3}})\s*({_YEARS_WORD})?$")
_AGE_RANGE: Final = re.compile(rf"^({_AGE_WORD}\s*:?\s*)?{_RANGE % ('1,3', '1,3')}\s*({_YEARS_WORD})?$")
_AGE_MONTHS: Final = re.compile(rf"^(?:{_AGE_WORD}\s*:?\s*)?(\d{{1,2}})\s*{_MONTHS_WORD}$")
_DECADE: Final = re.compile(rf"^({_AGE_WORD}\s*:?\s*)?(\d{{1,3}}0)\s*-?\s*an\s*({_YEARS_WORD})?$")


def parse_born(text: str, today: date) -> Born:
    """Read what is known of a client's birth: a date, a year, years (`1955-1960`, `1958~3`, `~1958`), an age or ages.

    An age covers the two calendar years it can mean on `today`; one that ends in 0 or 5 is taken as rounded and
    covers ABOUT_YEARS more on both sides.
    Raises FieldValueError (field born), without the value, for what is none of these or cannot be.
    """
    said = " ".join(_DASHES.sub("-", text.lower()).split())
    if not said or is_blank(said):
        raise FieldValueError(field="born", reason="empty")
    margin, said = _margin(said)
    born = _read_ages(said, margin, today) or _read_years(said, margin or 0, today)
    if born is None:
        found = _default_removed(_read_date(_YEAR_PREFIX.sub("", said), "born", two_digit_from=today.year % 100 + 1))
        _refuse_future(found, today)
        born = _years(found.year, found.year, margin or 0, today)._replace(month=found.month, day=found.day)
    return born


def _margin(said: str) -> tuple[int | None, str]:
    """Cut off `~3`, or "about"; return the years it allows on both sides (None: nothing was said) and the rest."""
    stated = _TOLERANCE.search(said)
    if stated:
        if int(stated[1]) > MAX_MARGIN_YEARS:
            raise FieldValueError(field="born", reason=f"more than {MAX_MARGIN_YEARS} years either way")
        return int(stated[1]), said[: stated.start()] + said[stated.end() :]
    for place in (said, _YEAR_PREFIX.sub("", said)):
        about = _ABOUT.match(place)
        if about:
            return ABOUT_YEARS, place[about.end() :]
    return None, said


def _read_ages(said: str, margin: int | None, today: date) -> Born | None:
    months = _AGE_MONTHS.match(said)
    if months:
        count = today.year * 12 + today.month - 1 - int(months[1])
        return _years((count - 1) // 12, count // 12, margin or 0, today)
    one = _AGE.match(said)
    if one and (one[1] or one[3]):
        age = int(one[2])
        heaped = ABOUT_YEARS if age % 5 == 0 and age > 0 else 0
        return _ages(age, age, heaped if margin is None else max(heaped, margin), today)
    if one and len(one[2]) < 4:
        raise FieldValueError(field="born", reason="an age or a year? Write `63 th` for an age, `1963` for a year")
    several = _AGE_RANGE.match(said)
    if several and (several[1] or several[4]):
        youngest, oldest = sorted((int(several[2]), int(several[3])))
        return _ages(youngest, oldest, margin or 0, today)
    decade = _DECADE.match(said)
    if decade and (decade[1] or decade[3]) and len(decade[2]) == 2:
        return _ages(int(decade[2]), int(decade[2]) + DECADE - 1, margin or 0, today)
    return None


def _ages(youngest: int, oldest: int, margin: int, today: date) -> Born:
    if oldest > OLDEST_AGE:
        raise FieldValueError(field="born", reason=f"an age above {OLDEST_AGE}")
    return _years(today.year - oldest - 1, today.year - youngest, margin, today)


def _read_years(said: str, margin: int, today: date) -> Born | None:
    bare = _YEAR_PREFIX.sub("", said)
    decade = _DECADE.match(bare)
    if decade and (len(decade[2]) == 4 or bare != said):
        first = int(decade[2]) if len(decade[2]) == 4 else 1900 + int(decade[2])
        return _years(first, first + DECADE - 1, margin, today)
    pair = _YEAR_RANGE.match(bare)
    if pair:
        first, last = sorted((int(pair[1]), int(pair[2])))
        return _years(first, last, margin, today)
    pair = _SHORT_YEAR_RANGE.match(bare)
    if pair and int(pair[2]) > max(12, int(pair[1]) % 100):  # up to 12 it is a month
        return _years(int(pair[1]), int(pair[1]) // 100 * 100 + int(pair[2]), margin, today)
    return None


def _years(first: int, last: int, margin: int, today: date) -> Born:
    if first > today.year:
        raise FieldValueError(field="born", reason="in the future")
    if first < FIRST_YEAR - 1 or last < FIRST_YEAR:
        raise FieldValueError(field="born", reason=f"before {FIRST_YEAR}")
    return Born(max(first - margin, FIRST_YEAR), min(last + margin, today.year), 0, 0)


def _refuse_future(found: PartialDate, today: date) -> None:
    # An unknown month or day counts as the first: a year that has begun is possible.
    if (found.year, found.month or 1, found.day or 1) > (today.year, today.month, today.day):
        raise FieldValueError(field="born", reason="in the future")


# --- years worth asking for -----------------------------------------------------------------------------------------

_NEAR: Final = (
    (0, YearClass.EXACT),
    (1, YearClass.OFF_1),
    (2, YearClass.OFF_2),
    (4, YearClass.OFF_3_4),
    (7, YearClass.OFF_5_7),
    (10, YearClass.OFF_8_10),
)


def year_classes(born: Born, today_year: int) -> list[tuple[int, YearClass]]:
    """List every registered year that would speak for this client, with its class, in order of the years.

    Slips of a digit count only where one year was said: among the years of a band they would cover the century.
    """
    return list(_year_classes(born, today_year))


def _year_classes(born: Born, today_year: int) -> Iterator[tuple[int, YearClass]]:
    for year in range(FIRST_YEAR, today_year + 1):
        off = max(born.first_year - year, year - born.last_year, 0)
        near = next((kind for limit, kind in _NEAR if off <= limit), None)
        if near is not None:
            yield year, near
        elif born.first_year == born.last_year and _confused(str(year), str(born.first_year)):
            yield year, YearClass.CONFUSED


def _confused(a: str, b: str) -> bool:
    differs = [place for place in range(4) if a[place] != b[place]]
    if len(differs) == 1:
        return True
    return len(differs) == 2 and [a[place] for place in differs] == [b[place] for place in reversed(differs)]


# --- sex ------------------------------------------------------------------------------------------------------------

# 1 and 2 are the civil registry's own codes. In a column of P and W the P means pria: the importer looks at the whole
# column before it trusts a P.
_SEXES: Final[dict[str, Literal["L", "P"]]] = {
    **dict.fromkeys(("l", "lk", "laki", "lakilaki", "lakii", "laki2", "pria", "m", "male", "1"), "L"),
    **dict.fromkeys(("p", "pr", "prm", "perempuan", "wanita", "w", "f", "female", "2"), "P"),
}
_UNKNOWN_SEX: Final = BLANKS | {"tidakdiketahui", "unknown", "u", "9"}


def parse_sex(text: str) -> Literal["L", "P"] | None:
    """Return L (laki-laki), P (perempuan), or None for a blank. Raises FieldValueError for anything else."""
    lowered = text.strip().lower()
    word = "".join(character for character in lowered if character.isalnum())
    if lowered in BLANKS or word in _UNKNOWN_SEX:
        return None
    try:
        return _SEXES[word]
    except KeyError:
        raise FieldValueError(field="sex", reason="neither L (laki-laki) nor P (perempuan)") from None
