"""What stands on the terminal: words for every outcome, bars on the right side, nothing beyond 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from matching.places import PROVINCES
from node.cli.render import Board, conclusion, make_console, verdict_sentences
from node.cli.texts import LANGUAGES, Texts
from node.findings import Concluded, Find, Heard, ProvinceState

if TYPE_CHECKING:
    from rich.console import RenderableType

CODE = "3f9ac2" * 5 + "12"
FOUND = Concluded(
    case="K-20261122-7f3a9c",
    outcome="home_found",
    province="33",
    ask_for=None,
    provinces={"33": 0.973, "53": 0.011, "31": 0.0004, "32": 0.0003},
    none=0.0153,
    unanswered={},
    heard=tuple(Heard(code, ProvinceState.ANSWERED, 40) for code in PROVINCES),
    finds=(
        Find("33", 1, 0.97, (CODE,), {"name": 14.2, "mother_name": 9.6, "birthplace": -3.1, "sex": None}),
        Find("53", 6, 0.01, (), {"name": 14.2}),
    ),
    ms=214,
)
WAITING = Heard("36", ProvinceState.UNREACHABLE, 12, detail="Banten: no connection. " * 8)
INCOMPLETE = replace(
    FOUND,
    outcome="incomplete",
    unanswered={"36": 0.2, "53": 0.1},
    heard=(WAITING, Heard("53", ProvinceState.BUSY, 3, retry_after_s=5.0), Heard("33", ProvinceState.ANSWERED, 9)),
    ask_for="mother_name",
)
AMBIGUOUS = replace(
    FOUND, outcome="ambiguous", province=None, ask_for="mother_name", provinces={"33": 0.5, "35": 0.4, "31": 0.01}
)
NOT_REGISTERED = replace(FOUND, outcome="not_registered", province=None, provinces={"33": 0.01}, none=0.99, finds=())
EVERY = {"found": FOUND, "incomplete": INCOMPLETE, "ambiguous": AMBIGUOUS, "not_registered": NOT_REGISTERED}


def shown(thing: RenderableType, *, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as file:
        console = make_console(file)
        console.print(thing)
        file.flush()
        return raw.getvalue().decode(encoding)


def page(concluded: Concluded, language: str = "id", *, encoding: str = "utf-8", own: str = "35") -> str:
    texts = Texts(language)
    board = Board(texts, case=concluded.case, own=own, names=PROVINCES)
    for heard in concluded.heard:
        board.heard(heard)
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding) as file:
        console = make_console(file)
        reasons = conclusion(console, texts, concluded, PROVINCES, own)
    return shown(board.view(concluded), encoding=encoding) + shown(reasons, encoding=encoding)


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", EVERY)
def test_nothing_is_wider_than_80_columns_nor_coloured_outside_a_terminal(kind: str, language: str) -> None:
    text = page(EVERY[kind], language)
    assert [line for line in text.splitlines() if len(line.rstrip()) > 80] == []
    assert "\x1b" not in text


@pytest.mark.parametrize("kind", EVERY)
def test_a_terminal_without_unicode_is_given_ascii(kind: str) -> None:
    assert page(EVERY[kind], encoding="ascii").isascii()


def test_a_home_is_named_with_its_probability_and_what_to_do() -> None:
    text = page(FOUND)
    assert "PROVINSI ASAL DITEMUKAN: Jawa Tengah" in text
    assert "Kemungkinan 97,3%. Hubungi Dinas Sosial Jawa Tengah" in text
    assert CODE in text


def test_a_home_of_our_own_needs_no_call_elsewhere() -> None:
    text = page(FOUND, own="33")
    assert "terdaftar di provinsi kita sendiri" in text
    assert "Hubungi" not in text


def test_ambiguous_names_the_provinces_and_the_next_question() -> None:
    text = page(AMBIGUOUS)
    assert "Yang mungkin: Jawa Tengah (50,0%), Jawa Timur (40,0%)." in text
    assert "Tanyakan nama ibu kandung." in text


def test_incomplete_names_who_did_not_answer_and_why_and_never_says_not_registered() -> None:
    text = " ".join(verdict_sentences(Texts("id"), INCOMPLETE, PROVINCES, "35"))
    assert "Banten (tidak tersambung)" in text
    assert "Nusa Tenggara Timur (sibuk, coba lagi dalam 5 detik)" in text
    assert "Sementara ini: Jawa Tengah" in text
    assert "TIDAK TERDAFTAR" not in page(INCOMPLETE)


def test_incomplete_ranks_the_silent_among_the_others() -> None:
    text = page(INCOMPLETE)
    assert line_of(text, "Banten (belum menjawab)").rstrip().endswith("20,0%")


def test_not_registered_says_that_everyone_answered() -> None:
    assert "Semua provinsi sudah menjawab" in page(NOT_REGISTERED)


def test_weight_against_stands_left_of_the_axis_and_weight_for_right_of_it() -> None:
    text = page(FOUND)
    place_left, place_right = line_of(text, "tempat lahir ").split("|")
    name_left, name_right = line_of(text, "nama  ").split("|")
    assert place_left.count("\N{FULL BLOCK}") == 3
    assert "\N{FULL BLOCK}" not in place_right
    assert "-3,1" in place_right
    assert name_right.count("\N{FULL BLOCK}") == 14
    assert "\N{FULL BLOCK}" not in name_left
    assert "+14,2" in name_right


def test_the_most_alike_of_a_client_without_a_home_is_not_called_the_home() -> None:
    faint = replace(NOT_REGISTERED, finds=(Find("33", 1, 0.004, (CODE,), {"name": 2.7}),))
    text = page(faint)
    assert "Yang paling mirip, di Jawa Tengah." in text
    assert "Mengapa" not in text
    assert CODE not in text


def test_a_missing_value_is_not_a_weight_of_zero() -> None:
    line = line_of(page(FOUND), "jenis kelamin")
    assert "tidak diketahui" in line
    assert "0,0" not in line


def test_bars_keep_one_scale_when_a_weight_is_longer_than_the_page() -> None:
    heavy = replace(FOUND, finds=(Find("33", 1, 0.9, (), {"name": 48.0, "birthplace": -12.0}),))
    text = page(heavy)
    assert line_of(text, "nama  ").count("\N{FULL BLOCK}") == 24
    assert line_of(text, "tempat lahir ").count("\N{FULL BLOCK}") == 6


def test_provinces_of_no_weight_share_one_row_and_are_not_forgotten() -> None:
    assert "2 provinsi lain" in page(FOUND)


def test_the_board_begins_with_our_own_province_and_counts_who_answered() -> None:
    board = Board(Texts("en"), case="K-1", own="36", names=PROVINCES)
    board.heard(Heard("53", ProvinceState.NEED_MORE, 4, attributes=("mother_name", "birth_date")))
    lines = shown(board.view()).splitlines()
    assert lines[2].startswith("Banten (ours)")
    assert "needs more: mother's name, born" in "\n".join(lines)
    answered = Concluded("K-1", "incomplete", None, None, {}, 1.0, {}, (), (), 7)
    assert "0 of 10 provinces answered in 7 ms" in shown(board.view(answered))
