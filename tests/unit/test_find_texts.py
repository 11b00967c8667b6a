"""Both languages say the same things, and everything the node may say has its words."""

from __future__ import annotations

import string
from datetime import date

import pytest

from matching.encoding import FieldWarning, client_warnings
from matching.errors import FieldValueError
from matching.fields import parse_born, parse_sex
from matching.posterior import Outcome
from matching.question import Client
from matching.schema import PERSON_SCHEMA, TITLE
from node.cli.find import OUTCOME_CODES
from node.cli.texts import DETAILS, LANGUAGES, TEXTS, Texts
from node.client_file import parse_client
from node.findings import ProvinceState
from node.rpc.wire import ERROR_OF_STATUS
from node.service import DISK_LOW, NO_AUDIT, NO_REGISTRY, NONCE_REUSED, OVER_BUDGET, STOPPING

TODAY = date(2026, 11, 22)
LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)

UNUSABLE_BIRTHS = [
    " ", "kemarin dulu", "maret", "5 maret 12", "17-8-1845", "17-13-1958", "31-2-1958", "1958~99", "63", "umur 130",
    "2031", "1-1-2027", "1850-1860",
]  # fmt: skip
UNUSABLE_FILES = [
    b"a" * 70_000, b"\xff\xfe\x00", b'{"name"', b"name =", b'{"nama": "x"}', b'{"name": 3}', b'name="a\\u0001"',
    b'name="' + b"a" * 201 + b'"', b'{"name":"a","name":"b"}', b'{"name":' + b"[" * 30_000,
]  # fmt: skip


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_texts_with_the_same_gaps() -> None:
    gaps = [{key: placeholders(text) for key, text in TEXTS[language].items()} for language in LANGUAGES]
    assert gaps[0] == gaps[1]


def test_texts_are_ascii_so_that_every_terminal_can_show_them() -> None:
    assert [
        text for texts in (*TEXTS.values(), *DETAILS.values()) for text in texts.values() if not text.isascii()
    ] == []


@LANGUAGE
def test_every_state_outcome_field_and_next_question_has_its_words(language: str) -> None:
    texts = Texts(language)
    wanted = [f"state.{state}" for state in ProvinceState]
    wanted += [f"outcome.{outcome}" for outcome in Outcome]
    wanted += [f"{kind}.{name}" for kind in ("field", "ask") for name in PERSON_SCHEMA.field_names]
    wanted += [f"prompt.{name}" for name in PERSON_SCHEMA.field_names if name != TITLE]  # said with the name
    assert [key for key in wanted if not texts.knows(key)] == []


def test_what_nodes_say_of_why_they_did_not_answer_is_told_in_indonesian() -> None:
    said = {words for _, words in ERROR_OF_STATUS.values()} | {NO_REGISTRY, NO_AUDIT, DISK_LOW, STOPPING}
    said |= {OVER_BUDGET.detail, NONCE_REUSED.detail}
    assert sorted(said - set(DETAILS["id"])) == []
    assert Texts("id").detail("it cannot read our question: name: is required") == (
        "pertanyaan kita tidak bisa dibaca di sana: name: is required"
    )
    assert Texts("id").detail("request 1234") == "request 1234"
    assert Texts("en").detail(NO_REGISTRY) == NO_REGISTRY


def test_every_outcome_has_its_exit_code() -> None:
    assert set(OUTCOME_CODES) == {str(outcome) for outcome in Outcome}
    assert len(set(OUTCOME_CODES.values())) == len(OUTCOME_CODES)


@pytest.mark.parametrize("said", UNUSABLE_BIRTHS)
def test_every_reason_against_a_birth_is_told_in_indonesian(said: str) -> None:
    with pytest.raises(FieldValueError) as caught:
        parse_born(said, TODAY)
    assert Texts("id").reason(caught.value.reason) != caught.value.reason


@pytest.mark.parametrize("data", UNUSABLE_FILES)
def test_every_reason_against_a_file_is_told_in_indonesian(data: bytes) -> None:
    with pytest.raises(FieldValueError) as caught:
        parse_client(data)
    assert Texts("id").reason(caught.value.reason) != caught.value.reason


def test_the_reason_against_a_sex_is_told_in_indonesian() -> None:
    with pytest.raises(FieldValueError) as caught:
        parse_sex("kucing")
    assert Texts("id").reason(caught.value.reason) == "bukan L (laki-laki) atau P (perempuan)"


@LANGUAGE
@pytest.mark.parametrize(
    "client",
    [
        Client(name="Joko", birthplace="Negeri Antah Berantah"),
        Client(name="A B"),
        Client(name="Raden Ayu Sri Hartini Kusuma Wijaya Ningrum Lestari Rahayu"),
    ],
)
def test_every_warning_has_its_words(language: str, client: Client) -> None:
    warnings = client_warnings(client)
    assert warnings
    assert [warning for warning in warnings if not Texts(language).knows(f"warning.{warning.reason}")] == []
    assert all(isinstance(warning, FieldWarning) for warning in warnings)


@pytest.mark.parametrize(
    ("probability", "indonesian", "english"),
    [
        (0.9731, "97,3%", "97.3%"),
        (0.99999, "> 99,9%", "> 99.9%"),
        (1.0, "> 99,9%", "> 99.9%"),
        (0.0, "< 0,1%", "< 0.1%"),
        (0.0004, "< 0,1%", "< 0.1%"),
        (0.0005, "0,1%", "0.1%"),
    ],
)
def test_a_probability_never_reads_as_certain(probability: float, indonesian: str, english: str) -> None:
    assert Texts("id").percent(probability) == indonesian
    assert Texts("en").percent(probability) == english


def test_an_unknown_reason_is_told_as_it_came() -> None:
    assert Texts("id").reason("something new (line 3)") == "something new (line 3)"
    assert Texts("id").reason("not JSON (line 3)") == "bukan JSON (line 3)"
