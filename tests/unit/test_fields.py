from __future__ import annotations

from datetime import date

import pytest

from matching.errors import FieldValueError
from matching.fields import (
    Born,
    PartialDate,
    YearClass,
    parse_born,
    parse_registry_date,
    parse_sex,
    year_classes,
)

TODAY = date(2026, 11, 22)
INDEPENDENCE = PartialDate(1945, 8, 17)


@pytest.mark.parametrize(
    "text",
    [
        "17-08-1945",
        "17/8/1945",
        "17.08.1945",
        " 17 Agustus 1945 ",
        "17 AGT 1945",
        "17-Aug-1945",
        "17 Agoestoes 1945",
        "17-VIII-1945",
        "August 17, 1945",
        "Jumat, 17 Agustus 1945",
        "1945-08-17",
        "1945/8/17",
        "19450817",
        "17081945",
        "1945-08-17 00:00:00",
        "1945-08-17T00:00:00.000Z",
        "17/08/1945 00.00.00",
        "17 Agt 45",
    ],
)
def test_every_way_of_writing_a_day_means_the_same_day(text: str) -> None:
    assert parse_registry_date(text) == INDEPENDENCE


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("1945", PartialDate(1945, 0, 0)),
        ("00-00-1945", PartialDate(1945, 0, 0)),
        ("1945-00-00", PartialDate(1945, 0, 0)),
        ("00-08-1945", PartialDate(1945, 8, 0)),
        ("Agustus 1945", PartialDate(1945, 8, 0)),
        ("8/1945", PartialDate(1945, 8, 0)),
        ("1945-08", PartialDate(1945, 8, 0)),
    ],
)
def test_unknown_day_or_month_is_zero(text: str, known: PartialDate) -> None:
    assert parse_registry_date(text) == known


@pytest.mark.parametrize("text", ["01-07-1950", "31-12-1950", "1950-01-01", "1 Juli 1950"])
def test_default_dates_say_no_more_than_their_year(text: str) -> None:
    assert parse_registry_date(text) == PartialDate(1950, 0, 0)


def test_the_fifteenth_says_no_more_than_its_month() -> None:
    assert parse_registry_date("15-03-1950") == PartialDate(1950, 3, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("30-02-1950", "no such day"),
        ("29-02-1949", "no such day"),
        ("31/04/1950", "no such day"),
        ("08/17/1945", "no such month"),
        ("17 Foo 1945", "no such month"),
        ("17 ma 1950", "no such month"),
        ("1900-01-01", "outside"),
        ("0000-00-00", "outside"),
        ("17-08-2945", "outside"),
        ("17-08-08", "two centuries"),
        ("16666", "not a date"),
        ("17-08-1945-2", "not a date"),
        ("tidak tahu", "no year"),
        ("-", "empty"),
        ("", "empty"),
        ("\u0660\u0661-03-1950", "not a date"),
    ],
)
def test_what_is_no_date_is_refused_with_a_reason_and_without_the_value(text: str, reason: str) -> None:
    with pytest.raises(FieldValueError, match=reason) as caught:
        parse_registry_date(text)
    assert caught.value.field == "birth_date"
    assert not text or len(text) == 1 or text not in str(caught.value)


def test_a_leap_day_exists_in_leap_years_alone() -> None:
    assert parse_registry_date("29-02-1948") == PartialDate(1948, 2, 29)
    with pytest.raises(FieldValueError):
        parse_registry_date("29-02-2100")


@pytest.mark.parametrize(
    ("text", "born"),
    [
        ("1958", Born(1958, 1958, 0, 0)),
        ("lahir tahun 1958", Born(1958, 1958, 0, 0)),
        ("17-08-1958", Born(1958, 1958, 8, 17)),
        ("17-08-58", Born(1958, 1958, 8, 17)),
        ("Mei 1958", Born(1958, 1958, 5, 0)),
        ("31-12-1958", Born(1958, 1958, 0, 0)),
        ("1955-1960", Born(1955, 1960, 0, 0)),
        ("1955\u20131960", Born(1955, 1960, 0, 0)),
        ("1960 - 1955", Born(1955, 1960, 0, 0)),
        ("1955-60", Born(1955, 1960, 0, 0)),
        ("1955-10", Born(1955, 1955, 10, 0)),
        ("antara 1955 dan 1960", Born(1955, 1960, 0, 0)),
        ("1955 s/d 1960", Born(1955, 1960, 0, 0)),
        ("1958~3", Born(1955, 1961, 0, 0)),
        ("1958 ± 3", Born(1955, 1961, 0, 0)),
        ("1958 +/- 3", Born(1955, 1961, 0, 0)),
        ("17-08-1958~2", Born(1956, 1960, 8, 17)),
        ("~1958", Born(1956, 1960, 0, 0)),
        ("sekitar 1958", Born(1956, 1960, 0, 0)),
        ("1960-an", Born(1960, 1969, 0, 0)),
        ("tahun 60-an", Born(1960, 1969, 0, 0)),
    ],
)
def test_what_a_caseworker_writes_as_dates_and_years(text: str, born: Born) -> None:
    assert parse_born(text, TODAY) == born


@pytest.mark.parametrize("text", ["63 th", "63 tahun", "umur 63", "Usia: 63 thn", "63 years old"])
def test_an_age_covers_the_two_years_it_can_mean(text: str) -> None:
    assert parse_born(text, TODAY) == Born(1962, 1963, 0, 0)


@pytest.mark.parametrize(
    ("text", "born"),
    [
        ("60 th", Born(1963, 1968, 0, 0)),
        ("65 tahun", Born(1958, 1963, 0, 0)),
        ("60-65 th", Born(1960, 1966, 0, 0)),
        ("umur 60 sampai 65", Born(1960, 1966, 0, 0)),
        ("60-an tahun", Born(1956, 1966, 0, 0)),
        ("sekitar 63 th", Born(1960, 1965, 0, 0)),
        ("63 th ~3", Born(1959, 1966, 0, 0)),
        ("63~3 th", Born(1959, 1966, 0, 0)),
        ("8 bulan", Born(2026, 2026, 0, 0)),
        ("14 bulan", Born(2025, 2025, 0, 0)),
        ("3 th", Born(2022, 2023, 0, 0)),
    ],
)
def test_ages_that_are_rounded_or_loose_cover_more(text: str, born: Born) -> None:
    assert parse_born(text, TODAY) == born


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("63", "an age or a year"),
        ("130 th", "above 120"),
        ("2030", "future"),
        ("23-11-2026", "future"),
        ("2027-2030", "future"),
        ("1858", "outside"),
        ("1700-1850", "before"),
        ("17-08-08", "two centuries"),
        ("1958~40", "more than 20"),
        ("30-02-1958", "no such day"),
        ("entah", "no year"),
        ("", "empty"),
    ],
)
def test_an_impossible_birth_is_refused_before_anything_is_sent(text: str, reason: str) -> None:
    with pytest.raises(FieldValueError, match=reason) as caught:
        parse_born(text, TODAY)
    assert caught.value.field == "born"


def test_today_is_not_in_the_future() -> None:
    assert parse_born("22-11-2026", TODAY) == Born(2026, 2026, 11, 22)


def test_years_are_classed_by_their_distance_from_the_band() -> None:
    classes = dict(year_classes(Born(1955, 1957, 0, 0), 2026))
    assert classes == {
        **dict.fromkeys((1955, 1956, 1957), YearClass.EXACT),
        **dict.fromkeys((1954, 1958), YearClass.OFF_1),
        **dict.fromkeys((1953, 1959), YearClass.OFF_2),
        **dict.fromkeys((1951, 1952, 1960, 1961), YearClass.OFF_3_4),
        **dict.fromkeys((1948, 1949, 1950, 1962, 1963, 1964), YearClass.OFF_5_7),
        **dict.fromkeys((1945, 1946, 1947, 1965, 1966, 1967), YearClass.OFF_8_10),
    }


def test_slips_of_a_digit_are_confusions_only_beyond_ten_years_and_for_one_year() -> None:
    classes = dict(year_classes(Born(1958, 1958, 0, 0), 2026))
    assert classes[1985] is YearClass.CONFUSED  # digits exchanged
    assert classes[1978] is YearClass.CONFUSED  # one digit wrong
    assert classes[1968] is YearClass.OFF_8_10
    assert 1979 not in classes
    assert YearClass.CONFUSED not in dict(year_classes(Born(1957, 1958, 0, 0), 2026)).values()


def test_no_year_is_asked_for_after_today_and_never_more_than_a_question_carries() -> None:
    assert max(year for year, _ in year_classes(Born(2020, 2026, 0, 0), 2026)) == 2026
    assert len(year_classes(Born(1901, 2026, 0, 0), 2026)) == 126
    years = [year for year, _ in year_classes(Born(1958, 1958, 0, 0), 2026)]
    assert years == sorted(set(years))


@pytest.mark.parametrize("text", ["L", "l", "LK", "Laki-laki", "LAKI - LAKI", "Pria", "M", "male", "1"])
def test_men(text: str) -> None:
    assert parse_sex(text) == "L"


@pytest.mark.parametrize("text", ["P", "PR", "Perempuan", "wanita", "F", "Female", "2"])
def test_women(text: str) -> None:
    assert parse_sex(text) == "P"


@pytest.mark.parametrize("text", ["", " ", "-", "NULL", "?", "n/a"])
def test_a_blank_sex_is_unknown(text: str) -> None:
    assert parse_sex(text) is None


@pytest.mark.parametrize("text", ["X", "3", "laki perempuan", "waria"])
def test_any_other_sex_is_refused_without_the_value(text: str) -> None:
    with pytest.raises(FieldValueError) as caught:
        parse_sex(text)
    assert text not in str(caught.value).split(": ")[1].split(" ")
