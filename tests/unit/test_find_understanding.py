"""What a caseworker is shown before sending is what will be asked."""

from __future__ import annotations

from datetime import date

import pytest

from matching.errors import FieldValueError
from node.cli import understanding
from node.cli.texts import Texts

ID, EN = Texts("id"), Texts("en")
TODAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("1958~3", "tahun 1955 sampai 1961"),
        ("1958", "tahun 1958"),
        ("17-8-1958", "tahun 1958, bulan 8, tanggal 17"),
        ("1-7-1958", "tahun 1958"),  # a date registries give to those who do not know theirs
        ("umur 63 th", "tahun 1962 sampai 1963"),
    ],
)
def test_a_birth_is_shown_as_the_years_it_means(said: str, shown: str) -> None:
    assert understanding.born(ID, said, TODAY) == shown


def test_a_name_is_shown_with_the_father_it_carries() -> None:
    assert understanding.name(ID, "H. Moch. Djoko bin Karto").startswith("muhammad djoko; ayah karto")


def test_a_name_of_titles_alone_is_refused() -> None:
    with pytest.raises(FieldValueError):
        understanding.name(ID, "Bapak")


@pytest.mark.parametrize(("said", "shown"), [("laki-laki", "laki-laki"), ("W", "perempuan")])
def test_a_sex_is_shown_in_words(said: str, shown: str) -> None:
    assert understanding.sex(ID, said) == shown


def test_a_place_is_shown_with_its_province_and_an_unknown_one_as_unknown() -> None:
    assert understanding.place(ID, "Kebumen") == "Kabupaten Kebumen (Jawa Tengah)"
    assert understanding.place(EN, "Antah Berantah Sekali") == "no regency or city that we know"
