from __future__ import annotations

import re
from pathlib import Path

import pytest

import matching.places
from matching.places import PROVINCES, province_name, regency_name, resolve_place

DATA = Path(matching.places.__file__).parent / "data"


def rows(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (DATA / name).read_text(encoding="utf-8").splitlines()[1:]]


@pytest.mark.parametrize(
    ("text", "regencies"),
    [
        ("Kebumen", ("33.05",)),
        ("KAB. KEBUMEN", ("33.05",)),
        ("Kabupaten Bandung", ("32.04",)),
        ("Kota Bandung", ("32.73",)),
        ("KODYA SEMARANG", ("33.74",)),
        ("Kediri Kota", ("35.71",)),
        ("Bogor (Kota)", ("32.71",)),
        ("Malang, Kab.", ("35.07",)),
        ("Gunungkidul", ("34.03",)),
        ("Gunung Kidul", ("34.03",)),
        ("Kota Administrasi Jakarta Timur", ("31.75",)),
        ("Kota Baru", ("63.02",)),  # a regency's name, not a city called Baru
        ("Lima Puluh Kota", ("13.07",)),
        ("Bandung", ("32.04", "32.73")),
        ("Banjar", ("32.79", "63.03")),
        ("Kota Banjar", ("32.79",)),
        ("Jakarta", ("31.71", "31.72", "31.73", "31.74", "31.75")),
    ],
)
def test_names_resolve_with_and_without_kab_and_kota(text: str, regencies: tuple[str, ...]) -> None:
    assert resolve_place(text).regencies == regencies


@pytest.mark.parametrize(
    ("old", "regency"),
    [
        ("Soerabaja", "35.78"),
        ("Djember", "35.09"),
        ("Tjilatjap", "33.01"),
        ("Banjoewangi", "35.10"),  # nj is ny here
        ("Nganjoek", "35.18"),  # and nj here
        ("Indramajoe", "32.12"),
        ("Bojolali", "33.09"),
        ("Bodjonegoro", "35.22"),
        ("Poerworedjo", "33.06"),
        ("Djokjakarta", "34.71"),
        ("Ujung Pandang", "73.71"),
        ("Purwokerto", "33.02"),
        ("Ungaran", "33.22"),
        ("Maumere", "53.07"),
        ("Surokarto", "33.72"),
        ("Jaksel", "31.74"),
    ],
)
def test_old_spoken_and_short_names_resolve(old: str, regency: str) -> None:
    assert resolve_place(old).regencies == (regency,)


def test_text_is_in_modern_spelling_without_the_kind() -> None:
    assert resolve_place("KAB. KEBUMEN").text == "kebumen"
    assert resolve_place("Kab. Bodjonegoro").text == "bojonegoro"
    assert resolve_place("Kampung Entah Di Mana").text == "kampung entah di mana"


@pytest.mark.parametrize(
    ("text", "related"),
    [
        ("Kab. Bandung", "32.73"),  # the city beside it
        ("Sumbawa Barat", "52.04"),  # what it was cut out of
        ("Sumbawa", "52.07"),  # what was cut out of it
        ("Pringsewu", "18.01"),  # cut out of Tanggamus, itself cut out of Lampung Selatan
        ("Kota Banjar", "32.07"),
        ("Tangerang Selatan", "36.03"),
        ("Lombok", "52.02"),
        ("Yogyakarta", "34.04"),
    ],
)
def test_a_place_knows_what_is_written_in_its_stead(text: str, related: str) -> None:
    place = resolve_place(text)
    assert related in place.related
    assert not set(place.related) & set(place.regencies)


def test_districts_lead_to_their_regency_but_a_regency_of_the_same_name_wins() -> None:
    assert resolve_place("Adimulyo").regencies == ("33.05",)
    assert resolve_place("Depok").regencies == ("32.76",)
    assert resolve_place("Kec. Depok").regencies != ("32.76",)
    assert "34.04" in resolve_place("Kec. Depok").regencies


@pytest.mark.parametrize(
    ("text", "regencies"),
    [
        ("Depok, Sleman", ("34.04",)),
        ("Sleman, Yogyakarta", ("34.04",)),
        ("Banjar, Jawa Barat", ("32.79",)),
        ("Kebumen Jawa Tengah", ("33.05",)),
        ("Kebumen - Jateng", ("33.05",)),
        ("Praya, Lombok", ("52.02",)),
        ("Tebet, Jakarta", ("31.74",)),
        ("Kuningan, Jakarta", ("31.71", "31.72", "31.73", "31.74", "31.75")),
        ("Ds. Entah Kec. Adimulyo Kab. Kebumen Prov. Jawa Tengah", ("33.05",)),
        ("Kota Bandung, Indonesia", ("32.73",)),
    ],
)
def test_wider_parts_narrow_what_a_name_may_mean(text: str, regencies: tuple[str, ...]) -> None:
    assert resolve_place(text).regencies == regencies


@pytest.mark.parametrize(
    ("text", "district"),
    [
        ("Adimulyo", True),
        ("Kec. Depok", True),
        ("Depok", False),  # the city
        ("Kec. Adimulyo, Kab. Kebumen", False),  # who names the regency as well is sure of it
        ("Kebumen", False),
        ("Soerabaja", False),
        ("Jatim", False),
        ("Entah", False),
    ],
)
def test_a_place_knows_whether_only_a_district_was_named(text: str, *, district: bool) -> None:
    assert resolve_place(text).district is district


@pytest.mark.parametrize(
    ("text", "provinces"), [("Jatim", ("35",)), ("Bali", ("51",)), ("DIY", ("34",)), ("N.T.T.", ("53",))]
)
def test_a_province_alone_names_no_regency(text: str, provinces: tuple[str, ...]) -> None:
    place = resolve_place(text)
    assert (place.regencies, place.provinces) == ((), provinces)


def test_a_regency_brings_its_province() -> None:
    assert resolve_place("Kebumen").provinces == ("33",)
    assert resolve_place("Irian Jaya").provinces == ("91", "92", "93", "94", "95", "96")


@pytest.mark.parametrize(
    ("slip", "regency"), [("Kebumne", "33.05"), ("Surabya", "35.78"), ("Wonogirri", "33.12"), ("Banyuwnagi", "35.10")]
)
def test_a_slip_of_the_pen_finds_the_only_name_it_can_mean(slip: str, regency: str) -> None:
    assert resolve_place(slip).regencies == (regency,)


@pytest.mark.parametrize("text", ["", "-", "1234", "Magelan", "Malaysia", "Kab.", "Pita", "Entah"])
def test_what_names_nothing_or_two_things_resolves_to_nothing(text: str) -> None:
    place = resolve_place(text)
    assert (place.regencies, place.related, place.provinces) == ((), (), ())


def test_every_regency_and_city_resolves_to_itself_by_its_full_name() -> None:
    for code, kind, name, _ in rows("regions.tsv"):
        if kind != "provinsi":
            assert code in resolve_place(f"{kind} {name}").regencies, name


def test_hand_made_tables_name_known_codes_once() -> None:
    codes = {row[0] for row in rows("regions.tsv")}
    for regency, parent, year in rows("regions_splits.tsv"):
        assert {regency, parent} <= codes
        assert regency != parent
        assert re.fullmatch(r"19[6-9]\d|20[01]\d", year)
    children = [row[0] for row in rows("regions_splits.tsv")]
    assert len(children) == len(set(children))
    for kind, _, listed, _ in rows("regions_names.tsv"):
        assert kind in {"same", "area", "province"}
        assert set(listed.split()) <= codes
    assert {row[0] for row in rows("regions_districts.tsv")} <= codes


def test_provinces_and_regencies_have_names_for_people() -> None:
    assert len(PROVINCES) == 10
    assert province_name("34") == "DI Yogyakarta"
    assert province_name("73") == "Sulawesi Selatan"
    assert regency_name("33.05") == "Kabupaten Kebumen"
    assert regency_name("99.99") == "99.99"


def test_a_resolved_place_does_not_print_the_place() -> None:
    assert "kebumen" not in repr(resolve_place("Kebumen")).lower()
