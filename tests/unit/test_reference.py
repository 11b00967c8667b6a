"""The reference tables say how rare a name is, and agree with the rules they were made by."""

from __future__ import annotations

import pytest

from matching.names import parse_name
from matching.phonetics import token_forms
from matching.reference import MAX_NICKNAMES, call_forms, count_sounds, nicknames, token_weight
from matching.tables import read_table, sound_counts, token_counts


def test_the_shipped_sounds_are_what_the_rules_make_of_the_shipped_tokens() -> None:
    # After a change to the rules: python -c "from matching.reference import write_sounds; write_sounds()"
    assert count_sounds() == sound_counts()


def test_a_rarer_name_weighs_more() -> None:
    weights = [token_weight(token) for token in ("muhammad", "siti", "budi", "soekarno", "hutagalung", "brzkt")]
    assert weights == sorted(weights)
    assert len(set(weights)) == len(weights)


def test_a_weight_is_quarter_bits_of_the_share() -> None:
    # 75,943 and more of 1,011,222 names hold a Muhammad, every spelling counted: between 1 in 8 and 1 in 16.
    assert 12 <= token_weight("muhammad") <= 16


def test_an_unseen_token_weighs_a_little_more_than_the_rarest_seen() -> None:
    rarest = max(token_weight(token) for token in token_counts() if parse_name(token).tokens == (token,))
    assert rarest < token_weight("brzkt") <= rarest + 4


@pytest.mark.parametrize(("one", "other"), [("soekarno", "sukarno"), ("achmad", "ahmad"), ("fitri", "vitry")])
def test_spellings_of_one_sound_weigh_the_same(one: str, other: str) -> None:
    assert token_forms(one).sound == token_forms(other).sound
    assert token_weight(one) == token_weight(other)


@pytest.mark.parametrize("token", ["m", "a", "muhammad", "x" * 160])
def test_every_weight_fits_a_byte(token: str) -> None:
    assert 1 <= token_weight(token) <= 255


@pytest.mark.parametrize(
    ("name", "short"),
    [("sukarno", "karno"), ("jamaludin", "udin"), ("yusuf", "ucup"), ("gunawan", "wawan"), ("iskandar", "kandar")],
)
def test_a_name_and_its_short_form_lead_to_each_other(name: str, short: str) -> None:
    assert short in nicknames(name)
    assert name in nicknames(short) or len(nicknames(short)) == MAX_NICKNAMES


def test_a_name_without_short_forms_has_none() -> None:
    assert nicknames("hutagalung") == ()


def test_nicknames_are_tokens_of_a_parsed_name() -> None:
    for name, short in read_table("nicknames.tsv"):
        assert parse_name(name).tokens == (name,)
        assert parse_name(short).tokens == (short,)


@pytest.mark.parametrize(
    ("name", "call"), [("sutinah", "tinah"), ("rahmawati", "wati"), ("sukarno", "karno"), ("sunaryo", "naryo")]
)
def test_a_name_is_called_by_its_last_syllables(name: str, call: str) -> None:
    assert call in call_forms(name)


@pytest.mark.parametrize("name", ["budi", "siti", "nur", "m"])
def test_who_has_two_syllables_is_called_by_both(name: str) -> None:
    assert all(form in nicknames(name) for form in call_forms(name))
