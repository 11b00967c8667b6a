"""The compiled way of an import says what the plain functions say: of every name, word, token and date."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.match import record_batch
from benchmarks.populations import generate
from matching.encoding import FilterEncoder, title_code
from matching.errors import FieldValueError, SchemaError
from matching.fields import UNREAD, packed_dates, parse_registry_date
from matching.index import Column, IndexBuilder, RecordBatch
from matching.names import expand_ordinary, expand_word, parse_name, signs
from matching.phonetics import SOUND_RULES, SPELLING_RULES, WIDE_RULES, stored_forms, token_forms, wide_sound
from matching.reference import call_forms, call_forms_of, token_weight
from matching.rewriting import Rewrite, compile_rules, replace_letters
from matching.rewriting import replace as rewrite
from matching.rules import NAME_RULES, NORMALISATION, PERSON_NAME
from matching.tables import token_counts
from matching.texts import Texts
from matching.vocabulary import MAX_STORED_TOKENS, Vocabulary
from tests.people import KEYS, NOW, column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RULES = NAME_RULES[PERSON_NAME]
# A copy is not the rules that the compiled way stands in for: everything is done one by one.
PLAIN = replace(NORMALISATION, names={**NAME_RULES, PERSON_NAME: replace(RULES)})

ORDINARY = (
    "siti", "aminah", "budi", "santoso", "nurhayati", "rahma", "wati", "abdurrahman", "muchammad", "fatih", "rahman",
    "budisantoso", "xzqy", "tjokro", "om", "lina", "puspita", "sari", "ab", "kom", "pd",
)  # fmt: skip
LOOKED_AT = (
    "h.", "hj", "m", "m.", "s.", "i", "ni", "wayan", "gede", "kt", "md", "bin", "binti", "al", "ar", "as", "el",
    "al.", "st", "br", "boru", "drs", "dr.", "s.pd", "by.", "ny.", "alias", "als", "jr", "raden", "mas", "r", "s",
    "tidak", "ada", "ust.", "a.n", "/", "(alm)", "-", "'", "2", "@", "putu,", ", s.pd", ", SH, M.Kom", ",",
)  # fmt: skip
names = st.lists(
    st.one_of(st.sampled_from(ORDINARY), st.sampled_from(LOOKED_AT), st.text("abehilmnorstuy'.,- ", max_size=7)),
    max_size=9,
).map(" ".join)
tokens = st.text("aaeeiioouuyywhhkktdjgbscfvzqxprlmn", min_size=1, max_size=12)


def said(value: str | None) -> tuple[object, ...]:
    """Return the same from `parse_name`."""
    parsed = parse_name(value or "")
    own = parsed.tokens
    if parsed.aliases or len(own) > MAX_STORED_TOKENS:
        own = tuple(dict.fromkeys(own + tuple(token for alias in parsed.aliases for token in alias)))
    stored = own[:MAX_STORED_TOKENS]
    return stored, parsed.father[:MAX_STORED_TOKENS], parsed.mother[:MAX_STORED_TOKENS], title_code(parsed.titles)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(RULES)


def assert_read_alike(vocabulary: Vocabulary, values: Sequence[str | None]) -> None:
    batch = vocabulary.read(values)
    used = [batch.tokens[i, :length].tolist() for i, length in enumerate(batch.lengths.tolist())]
    numbers = sorted({number for own in used for number in own})
    texts = vocabulary.describe(np.array(numbers, dtype=np.uint32)).tokens.strings()
    token_of = dict(zip(numbers, texts, strict=True))
    for i, value in enumerate(values):
        own = tuple(token_of[number] for number in used[i])
        titles = vocabulary.title_codes[batch.titles[i]]
        assert (own, batch.father.get(i, ()), batch.mother.get(i, ()), titles) == said(value), repr(value)


@settings(max_examples=200, deadline=None)
@example(["br i'i bin budi", "br st bin i'i", "nona b7pk MSC", "Abdul-Karim bin Umar", "Budi bin Al Amat"])
@given(st.lists(st.one_of(st.none(), names, st.text(max_size=30)), max_size=6))
@example(["as al hj budi dr.", "ar hj rahman", "al al fatih", "al. fatih"])
@example(["Al Fatih", "Ar Rahman", "Ar Fatih", "Al Ar Rahman", "al ab", "H. Al Fatih", "siti al fatih ar"])
@example(["SITI\nAMINAH", "siti\taminah", "ma'ruf 2 `n", "Ahmad , S.Pd", ", S.Pd", "budi s. kom", "st siti", "siti st"])
@example([" ".join("abcdefghijklmnop"), "rahma wati " * 6, "a" * 161, "siti " * 13, "h. " * 12, "m " * 60 + ", s.pd"])
def test_names_are_read_as_one_by_one(vocabulary: Vocabulary, values: list[str | None]) -> None:
    assert_read_alike(vocabulary, values)


def test_a_name_is_read_alike_when_its_words_are_known_already(vocabulary: Vocabulary) -> None:
    rng = np.random.default_rng(7)
    pieces = ORDINARY + LOOKED_AT
    values = [" ".join(rng.choice(pieces, rng.integers(1, 6))) for _ in range(2000)]
    assert_read_alike(vocabulary, values)
    assert_read_alike(Vocabulary(RULES), values[::-1])


@settings(max_examples=300, deadline=None)
@given(st.one_of(tokens, st.lists(st.sampled_from(sorted(token_counts())), min_size=1, max_size=2).map("".join)))
def test_a_word_without_signs_stands_for_itself(word: str) -> None:
    shown = signs()
    halved = any(word[:cut] in shown.halves and word[cut:] in shown.halves for cut in range(3, len(word) - 2))
    if word.isalpha() and word not in shown.words and not word.startswith(shown.beginnings) and not halved:
        assert list(expand_ordinary([word])) == [(word,)]


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(token_counts())), min_size=1, max_size=5))
def test_ordinary_words_stand_for_the_same_in_any_name(words: list[str]) -> None:
    words = [word for word, its in zip(words, expand_ordinary(words), strict=True) if its is not None]
    apart = parse_name(" ".join(words), without=frozenset({"pairs"})).tokens
    assert apart == tuple(token for word in words for token in expand_word(word))[: len(apart)]


def test_every_token_of_the_reference_has_its_forms_and_rarity() -> None:
    known = [token for token in token_counts() if re.fullmatch("[a-z]+", token)][::3]
    rng = np.random.default_rng(3)
    letters = list("aaeeiioouuyywhhkktdjgbscfvzqxprlmn")
    known += ["".join(rng.choice(letters, rng.integers(1, 12))) for _ in range(3000)]
    forms = stored_forms(known)
    wides = forms.wides.strings()
    for token, spelling, sound, wide in zip(known, forms.spellings.strings(), forms.heard, wides, strict=True):
        own = token_forms(token, without=frozenset({"alternates"}))
        assert (spelling, sound, wide) == (own.spelling, own.sound, wide_sound(own.sound)), token


@pytest.mark.parametrize("name", [name for name, rule in SPELLING_RULES + SOUND_RULES if isinstance(rule, Rewrite)])
def test_a_compiled_rule_does_what_its_expression_does(name: str) -> None:
    rule = dict(SPELLING_RULES + SOUND_RULES)[name]
    assert isinstance(rule, Rewrite)
    assert_rewritten(rule, sum(map(ord, name)))


@pytest.mark.parametrize("place", range(len(WIDE_RULES)))
def test_a_compiled_rule_of_wide_sounds_does_what_its_expression_does(place: int) -> None:
    assert_rewritten(WIDE_RULES[place], place)


def assert_rewritten(rule: Rewrite, seed: int) -> None:
    rng = np.random.default_rng(seed)
    letters = sorted({letter for step in rule.steps for letter in step.pattern if letter.isalpha()} | set("aeis"))
    words = ["".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(3000)]
    words += ["ie", "iem", "bien", "sy", "syt", "oo", "ood", "zh", "dzh", "ng", "g", "h", "ah", "aah", "der", "xxder"]
    assert compile_rules([rule])(Texts.of(words)).strings() == [rule(word) or word for word in words]


@pytest.mark.parametrize("pattern", ["a*", "a+b", r"\w", "(ab)", "a{3}", "(?<!ab)c", "A"])
def test_an_expression_of_another_kind_is_not_compiled(pattern: str) -> None:
    with pytest.raises(SchemaError, match="cannot be compiled"):
        compile_rules([rewrite(pattern, "b")])


def test_steps_follow_each_other() -> None:
    words = Texts.of(["tkh", "ab", "b"])
    assert compile_rules([replace_letters(("tkh", "th"), ("ab", "")), rewrite("th", "d", "th")])(words).strings() == [
        "d",
        "ab",
        "b",
    ]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=140), max_size=70), st.sampled_from([8, 12, 24, 64]), st.sampled_from([b"", b"="]))
@example([b"", b"a" * 127, b"a" * 128, b"a" * 129], 8, b"=")
def test_many_digests_are_those_of_the_standard_library(messages: list[bytes], size: int, prefix: bytes) -> None:
    ends = np.cumsum([0, *map(len, messages)], dtype=np.int64)
    texts = Texts(np.frombuffer(b"".join(messages), dtype=np.uint8), ends)
    found = KEYS.digests("name", "sound", texts, size, prefix)
    key = KEYS.by_purpose["name", "sound"]
    assert [row.astype("<u8").tobytes()[:size] for row in found] == [
        hashlib.blake2b(prefix + message, digest_size=size, key=key).digest() for message in messages
    ]


@settings(deadline=None)
@given(st.lists(tokens, min_size=1, max_size=20, unique=True))
@example(["a", "ab", "aab", "aabb", "anna", "abcdefghijklmnopqrstuvwxyz", "muhammad", "sutinah", "wati"])
def test_tokens_are_encoded_as_one_by_one(some: list[str]) -> None:
    vocabulary = Vocabulary(RULES)
    stored = vocabulary.describe(np.array([vocabulary.token(token) for token in some], dtype=np.uint32))
    encoder = FilterEncoder(KEYS.schema.field("name"), KEYS)
    masks = [int.from_bytes(row.astype("<u8").tobytes(), "little") for row in encoder.many(stored)]
    assert masks == [encoder.any(token) for token in some]
    assert stored.weights.tolist() == list(map(token_weight, some))
    for found, one in ((encoder.near_many(stored), encoder.near), (encoder.calls_many(stored), encoder.calls)):
        parts = np.split(found[0], np.cumsum(found[1])[:-1])
        assert [sorted(part.tolist()) for part in parts] == [one(token) for token in some]


@settings(deadline=None)
@given(st.lists(st.one_of(tokens, st.sampled_from(sorted(token_counts())[::50])), max_size=30))
def test_call_names_are_found_as_one_by_one(some: list[str]) -> None:
    called, counts = call_forms_of(some)
    ends = np.cumsum([0, *counts])
    assert [set(called[ends[i] : ends[i + 1]]) for i in range(len(some))] == list(map(call_forms, some))


dates = st.one_of(
    st.dates().map(str),
    st.builds(
        "{:02}{}{:02}{}{:04}".format,
        st.integers(0, 32),
        st.sampled_from("-/. "),
        st.integers(0, 13),
        st.sampled_from("-/."),
        st.integers(1890, 2110),
    ),
    st.builds("{:04}-{:02}-{:02}".format, st.integers(1890, 2110), st.integers(0, 13), st.integers(0, 32)),
    st.text("0123456789-/. é", max_size=11),
)


@settings(deadline=None)
@given(st.lists(dates, max_size=8))
@example(["1990-07-01", "01-01-1990", "31/12/1990", "1990-05-15", "15.05.1990", "2000-02-29", "1900-01-01"])
def test_dates_read_together_are_those_read_one_by_one(texts: list[str]) -> None:
    for text, packed in zip(texts, packed_dates(Texts.of_values(texts)).tolist(), strict=True):
        if packed != UNREAD:
            assert parse_registry_date(text).packed == packed


def test_most_dates_are_read_together() -> None:
    assert UNREAD not in packed_dates(Texts.of(["1990-07-01", "17-08-1945", "17/08/1945", "17.08.1945", "31-12-2000"]))


def test_every_day_of_a_calendar_is_read_together_and_no_other() -> None:
    days = itertools.product((1900, 1901, 1950, 1999, 2000, 2024, 2099, 2100), range(1, 14), range(1, 33))
    texts = [f"{year:04}-{month:02}-{day:02}" for year, month, day in days]
    for text, packed in zip(texts, packed_dates(Texts.of(texts)).tolist(), strict=True):
        try:
            assert parse_registry_date(text).packed == packed, text
        except FieldValueError:
            assert packed == UNREAD, text


def index_digests(directory: Path, *, compiled: bool) -> dict[str, str]:
    registry = generate(2000, 0, "high", 11).registry
    builder = IndexBuilder(directory, KEYS, NORMALISATION if compiled else PLAIN)
    for part in registry.iter_slices(700):
        batch = record_batch(part)
        if not compiled:
            columns = {
                name: column([each.values[code] if code >= 0 else None for code in each.codes.tolist()])
                for name, each in batch.columns.items()
            }
            batch = replace(batch, columns=columns)
        builder.add(batch)
    return {name: entry.sha256 for name, entry in builder.finish(NOW, registry.height).files.items()}


def test_a_population_makes_the_same_index_byte_for_byte(tmp_path: Path) -> None:
    assert index_digests(tmp_path / "compiled", compiled=True) == index_digests(tmp_path / "plain", compiled=False)


def test_fathers_are_numbered_in_the_order_of_their_children_however_those_are_read(tmp_path: Path) -> None:
    digests = []
    for kind, rules in (("compiled", NORMALISATION), ("plain", PLAIN)):
        builder = IndexBuilder(tmp_path / kind, KEYS, rules)
        builder.add(RecordBatch(["1", "2"], {"name": Column.of_rows(["Abdul-Karim bin Umar", "Budi bin Amat"])}))
        digests.append({name: entry.sha256 for name, entry in builder.finish(NOW, 2).files.items()})
    assert digests[0] == digests[1]


def test_values_that_are_repeated_make_the_same_index(tmp_path: Path) -> None:
    digests = []
    for kind, make in (("rows", Column.of_rows), ("distinct", column)):
        builder = IndexBuilder(tmp_path / kind, KEYS)
        registry = generate(200, 0, "base", 5).registry
        batch = record_batch(registry)
        columns = {name: make(registry[name].to_list()) for name in batch.columns}
        builder.add(replace(batch, columns=columns))
        digests.append({name: entry.sha256 for name, entry in builder.finish(NOW, 200).files.items()})
    assert digests[0] == digests[1]


def test_an_unreadable_date_is_an_issue_of_every_row_a_blank_is_none_and_no_name_is_lost(tmp_path: Path) -> None:
    builder = IndexBuilder(tmp_path / "g", KEYS)
    values: dict[str, list[str | None]] = {
        "name": ["Siti\nAminah", "Budi", "Budi", "Budi", "Budi"],
        "birth_date": ["1950-02-31", "1950-02-03", "-", "1950-02-31", None],
    }
    columns = {name: Column.of_rows(each) for name, each in values.items()}
    issues = builder.add(RecordBatch(list("abcde"), columns))
    assert [(issue.row, issue.field, issue.rejected) for issue in issues] == [
        (0, "birth_date", False),
        (3, "birth_date", False),
    ]
    assert builder.finish(NOW, 5).persons == 5
