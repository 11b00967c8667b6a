"""A name as written is taken apart without losing the person, whatever is written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matching.names import MAX_NAME_CHARACTERS, MAX_TOKENS, ParsedName, parse_name, read_titles
from matching.tables import read_table


def tokens(raw: str) -> str:
    return " ".join(parse_name(raw).tokens)


# --- Rule 1: letters, second names, brackets


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  SITI   AMINAH ", "siti aminah"),
        ("Zoë Østergård", "zoe ostergard"),
        ("Ja\u2019far", "jafar"),
        ("Ja`far", "jafar"),
        ("Bud1 Santoso2", "bud santoso"),
        ("Budi.Santoso", "budi santoso"),
        ("Anna-Maria", "anna maria"),
        ("Budi (Pak RT 05)", "budi"),
        ("Budi (tidak ditutup", "budi"),
        ("Budi Santoso, S.Pd., M.M.", "budi santoso"),
        (", Budi", "budi"),
    ],
)
def test_only_the_letters_of_the_name_remain(raw: str, expected: str) -> None:
    assert tokens(raw) == expected


@pytest.mark.parametrize(
    "raw", ["Budi alias Anto", "Budi als. Anto", "Budi als Anto", "Budi al. Anto", "Budi / Anto", "Budi @ Anto"]
)
def test_a_second_name_is_kept_apart_from_the_first(raw: str) -> None:
    assert parse_name(raw) == ParsedName(("budi",), aliases=(("anto",),))


def test_a_man_called_alias_keeps_his_name() -> None:
    assert tokens("Alias") == "alias"
    assert tokens("Muhammad Alias") == "muhammad alias"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "   ",
        "-",
        "...",
        "123",
        "محمد علي",
        "王小明",
        "😀😀",
        "()",
        "Ny.",
        "Drs.",
        "Tidak ada",
        "N.N.",
        "Mr. X",
        "null",
    ],
)
def test_a_text_without_a_name_gives_no_tokens(raw: str) -> None:
    assert parse_name(raw) == ParsedName(())


def test_a_very_long_text_is_cut() -> None:
    assert len(parse_name("x" * 10_000).tokens[0]) == MAX_NAME_CHARACTERS
    assert len(parse_name("budi " * 2_000).tokens) == MAX_TOKENS
    assert len(parse_name("a/" * 5_000).aliases) <= MAX_NAME_CHARACTERS
    assert len(parse_name("\ufdfa" * 10_000).tokens) <= MAX_TOKENS  # one character that unfolds to eighteen


# --- Rule 2: titles


@pytest.mark.parametrize(
    ("titles", "name"),
    [
        ("H.", "H. Budi"),
        ("S.Pd", "Budi, S.Pd"),
        ("Hj, S. Pd., M.M.", "Hj Budi, S. Pd., M.M."),
        ("Raden Mas", "Raden Mas Budi"),
        ("Drs. H.", "Drs. H. Budi"),
        ("-", "Budi"),
        ("", "Budi"),
    ],
)
def test_titles_in_a_column_of_their_own_are_those_of_a_name_that_holds_them(titles: str, name: str) -> None:
    assert sorted(read_titles(titles)) == sorted(parse_name(name).titles)


@pytest.mark.parametrize(
    ("raw", "expected", "titles"),
    [
        ("H. Sulaiman", "sulaiman", ("haji",)),
        ("Hj Siti Aminah", "siti aminah", ("hajah",)),
        ("Siti Aminah Hj.", "siti aminah", ("hajah",)),
        ("Drs. H.M. Yusuf", "m yusuf", ("haji",)),
        ("Dr. dr. Ir. Budi", "budi", ()),
        ("Bpk. Budi", "budi", ()),
        ("Ny. Budi", "budi", ()),
        ("Alm. H. Budi", "budi", ("haji",)),
        ("Budi (Alm)", "budi", ()),
        ("Raden Mas Budi", "budi", ("raden mas",)),
        ("RM Budi", "budi", ("raden mas",)),
        ("Lalu Muhammad Iqbal", "muhammad iqbal", ("lalu",)),
        ("Tuan Guru Zainuddin", "zainuddin", ("tuan guru",)),
        ("Anak Agung Gede", "gede", ("anak agung",)),
        ("Budi SE", "budi", ("se",)),
        ("Budi Santoso, S.H., M.H.", "budi santoso", ("sh", "mh")),
        ("Budi, Jember", "budi", ()),
        ("Budi S. Pd.", "budi", ("spd",)),
        ("a/n Budi", "budi", ()),
        ("An. Budi", "budi", ()),
    ],
)
def test_titles_leave_the_name(raw: str, expected: str, titles: tuple[str, ...]) -> None:
    parsed = parse_name(raw)
    assert (" ".join(parsed.tokens), parsed.titles) == (expected, titles)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("R. Budi", "r budi"),
        ("M. Nur", "m nur"),
        ("T. Iskandar", "t iskandar"),
        ("A. Yani", "a yani"),
        ("I. Santoso", "i santoso"),
        ("L. Siregar", "l siregar"),
        ("Abdul M. A. Rahman", "abdul m a rahman"),
    ],
)
def test_a_letter_that_may_be_a_title_stays_as_an_initial(raw: str, expected: str) -> None:
    assert parse_name(raw) == ParsedName(tuple(expected.split()))


@pytest.mark.parametrize("name", ["raden", "lalu", "baiq", "umbu", "haji", "ma", "an", "andi", "dewa", "ratu", "neng"])
def test_a_title_that_is_all_there_is_stays_as_the_name(name: str) -> None:
    assert tokens(name) == name


@pytest.mark.parametrize("raw", ["Andi Wijaya", "Dewa Saputra", "Ratu Aisyah", "Neng Siti"])
def test_a_title_that_is_also_a_common_name_is_not_taken_away(raw: str) -> None:
    assert tokens(raw) == raw.lower()


# --- Rule 3: structure


@pytest.mark.parametrize("marker", ["bin", "binti", "bt.", "bte", "bnt"])
def test_what_follows_bin_is_the_father(marker: str) -> None:
    assert parse_name(f"Slamet {marker} H. Abdullah") == ParsedName(("slamet",), father=("abdullah",))


def test_the_grandfather_is_left_out() -> None:
    assert parse_name("Ahmad bin Umar bin Usman").father == ("umar",)


def test_binti_at_the_start_is_her_own_name() -> None:
    assert parse_name("Binti Khasanah") == ParsedName(("binti", "khasanah"))


@pytest.mark.parametrize(
    "raw", ["By. Ny. Siti Aminah", "BY NY SITI AMINAH", "Bayi Ny. Siti Aminah", "Bayi Siti Aminah"]
)
def test_an_unnamed_newborn_carries_its_mothers_name(raw: str) -> None:
    assert parse_name(raw) == ParsedName((), mother=("siti", "aminah"))


@pytest.mark.parametrize("raw", ["Maria br Siregar", "Maria br. Siregar", "Maria boru Siregar", "Maria Siregar"])
def test_the_clan_marker_goes_and_the_clan_stays(raw: str) -> None:
    assert tokens(raw) == "maria siregar"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("S R I", "sri"),
        ("S R I Wahyuni", "sri wahyuni"),
        ("E K O", "eko"),
        ("J U N A E D I", "junaedi"),
        ("H A R I", "hari"),
    ],
)
def test_letters_written_apart_are_joined_to_a_known_name(raw: str, expected: str) -> None:
    assert tokens(raw) == expected


def test_letters_that_spell_no_name_stay_initials() -> None:
    assert tokens("A B C Rahman") == "a b c rahman"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Nurhayati", "Nur Hayati"),
        ("Noerhajati", "Nur Hajati"),
        ("Nuraini", "Nur Aini"),
        ("Nurdjannah", "Nur Djannah"),
        ("Nurulhuda", "Nurul Huda"),
        ("Abdurrahman", "Abdul Rahman"),
        ("Abdurahman", "Abd. Rahman"),
        ("Abdulrahman", "Abdur Rahman"),
        ("Abdussalam", "Abdul Salam"),
        ("Abdullatif", "Abdul Latif"),
        ("Sitiaminah", "St. Aminah"),
        ("Sitinurhayati", "Siti Nur Hayati"),
        ("Fathurrahman", "Fathur Rahman"),
        ("Paturrohman", "Fathur Rohman"),
        ("Alfatih", "Al Fatih"),
        ("Alfatih", "Al-Fatih"),
        ("Azzahra", "Az Zahra"),
        ("Peranginangin", "Perangin-angin"),
        ("Puspitasari", "Puspita Sari"),
        ("Rahmawati", "Rahma Wati"),
        ("Budisantoso", "Budi Santoso"),
    ],
)
def test_one_word_or_two_give_the_same_tokens(one: str, other: str) -> None:
    assert tokens(one) == tokens(other)


@pytest.mark.parametrize(
    "name", ["abdullah", "abdulloh", "nurdin", "norman", "sitinjak", "wulandari", "supriyanto", "kurniawati"]
)
def test_a_name_that_only_looks_like_a_compound_stays_whole(name: str) -> None:
    assert tokens(name) == name


# --- Rules 4 and 5: abbreviations and Muhammad


@pytest.mark.parametrize(
    "form",
    [
        "Muhammad", "Muhamad", "Mohammad", "Mohamad", "Mohamed", "Mochammad", "Mochamad", "Muchamad", "Mukhammad",
        "Muhamat", "Moh.", "Moh", "Muh.", "Moch.", "Much.", "Mhd", "Md", "Mohd", "Muhd", "Muammad", "Muhammmad",
    ],
)  # fmt: skip
def test_every_muhammad_is_one_token(form: str) -> None:
    assert tokens(f"{form} Yusuf") == "muhammad yusuf"


@pytest.mark.parametrize("name", ["mahmud", "ahmad", "mamad", "hamid", "muhidin"])
def test_names_near_muhammad_stay_themselves(name: str) -> None:
    assert tokens(name) == name


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("I Md Sudarma", "made sudarma"),
        ("Ni Kt Sari", "ketut sari"),
        ("I Gst Ngr Agung", "ngurah agung"),
        ("Gd Putu Arta", "gede putu arta"),
        ("Md Yusuf", "muhammad yusuf"),
        ("Kt Sari", "kt sari"),
    ],
)
def test_balinese_abbreviations_are_read_beside_a_balinese_marker_only(raw: str, expected: str) -> None:
    assert tokens(raw) == expected


# --- All rules


# What people and forms put into names, so that random text reaches every rule.
_WRITTEN = """Siti Nur nurhayati Abdurrahman H. Hj. Drs. M. I Ni Md Kt br bin binti alias als. / ( ) , S.Pd ST By. Ny.
Al - ' R A. é"""
_WORDS = st.sampled_from(_WRITTEN.split())
_NAMES = st.lists(_WORDS | st.text(max_size=8), max_size=12).map(" ".join) | st.text()


@settings(deadline=None)  # the first example loads the tables
@given(_NAMES)
def test_any_text_is_parsed_into_plain_tokens(raw: str) -> None:
    parsed = parse_name(raw)
    assert parse_name(raw) == parsed
    for part in (parsed.tokens, parsed.father, parsed.mother, *parsed.aliases):
        assert len(part) <= MAX_TOKENS
        assert all(re.fullmatch("[a-z]+", token) for token in part)


# Every word that a table or a rule knows, and words that none does.
_TABLES = {
    word for table in ("titles.tsv", "name_abbreviations.tsv") for row in read_table(table) for word in row[0].split()
}
_RULE_WORDS = """a b d e k o i ni al el ar br boru bin binti bnt ii jr alias als tidak ada nn gusti putu ngurah desak
luh muhamad mochammad nurjanah fathurrozi paturrohman sitirahma abdurahim budisantoso sutirman partiyem ekko rahma
wati"""


@settings(deadline=None, max_examples=1000)  # the first example loads the tables
@given(st.lists(st.sampled_from([*sorted(_TABLES), *3 * _RULE_WORDS.split()]), max_size=6).map(" ".join))
def test_the_short_cuts_read_a_name_as_all_rules_do(raw: str) -> None:
    # Leaving out a rule that does not exist takes the long way.
    assert parse_name(raw) == parse_name(raw, without=frozenset({"nothing"}))


_PLAIN = "siti nurhayati abdurrahman rahma wati puspitasari moh budi santoso al fatih"


@settings(deadline=None)  # the first example loads the tables
@given(st.lists(st.sampled_from(_PLAIN.split()), max_size=6))
def test_parsing_its_own_tokens_changes_nothing(words: list[str]) -> None:
    once = parse_name(" ".join(words)).tokens
    assert parse_name(" ".join(once)).tokens == once
